//! Floods of HTTP/2 frames that cost a client nothing and a careless server much: FAULTS F32.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::support::{Gateway, tiny};
use super::vitals::{cpu, mib, rss};
use super::{alone, assert_normal};

/// Attacks of each kind, and frames of each attack.
const CONNECTIONS: usize = 8;
const FRAMES: u32 = 20_000;
/// Most memory that an attack may cost.
const GROWTH_MAX: u64 = 50 << 20;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// One frame (RFC 9113, 4.1).
fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// `GET /v1/models`, by the static table but for the path (RFC 7541, 6).
fn get() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, 10];
    block.extend_from_slice(b"/v1/models");
    block.extend_from_slice(&[0x01, 9]);
    block.extend_from_slice(b"localhost");
    block
}

/// What one attack saw of the other side.
#[derive(Default)]
struct Seen {
    goaway: bool,
    closed: bool,
}

/// Sends frames as fast as they are taken, `FRAMES` times what `next` makes, and reads what comes back.
fn attack(gateway: &Gateway, mut next: impl FnMut(u32, &mut Vec<u8>)) -> Seen {
    let mut socket = TcpStream::connect(gateway.public).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    // A server that reads no more is not to be waited for.
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, b"");
    let (mut seen, mut read) = (Seen::default(), Vec::new());
    for n in 0..FRAMES {
        next(n, &mut bytes);
        if bytes.len() < 32 << 10 && n + 1 < FRAMES {
            continue;
        }
        let sent = socket.write_all(&bytes);
        bytes.clear();
        take(&mut socket, &mut read, &mut seen);
        if sent.is_err() || seen.closed {
            break;
        }
    }
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    take(&mut socket, &mut read, &mut seen);
    seen
}

/// Reads what is there, and looks at the frames in it.
fn take(socket: &mut TcpStream, read: &mut Vec<u8>, seen: &mut Seen) {
    let mut buffer = [0; 64 << 10];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => seen.closed = true,
            Ok(n) => {
                read.extend_from_slice(&buffer[..n]);
                while read.len() >= 9 {
                    let whole = 9 + (usize::from(read[1]) << 8 | usize::from(read[2]));
                    if read.len() < whole {
                        break;
                    }
                    seen.goaway |= read[3] == GOAWAY;
                    read.drain(..whole);
                }
                continue;
            }
            Err(error) => {
                let nothing = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                seen.closed |= !nothing;
            }
        }
        return;
    }
}

/// Runs an attack on several connections, one after the other, and says what it cost. Gives how many were ended by the
/// gateway.
#[expect(clippy::print_stdout, reason = "the figures are the test's report")]
fn flood(gateway: &Gateway, name: &str, next: impl Fn(u32, &mut Vec<u8>)) -> usize {
    let (memory, time) = (rss(gateway), cpu(gateway));
    let seen: Vec<_> = (0..CONNECTIONS).map(|_| attack(gateway, &next)).collect();
    let grown = rss(gateway).saturating_sub(memory);
    let goaway = seen.iter().filter(|seen| seen.goaway).count();
    let ended = seen.iter().filter(|seen| seen.goaway || seen.closed).count();
    println!(
        "{name}: {ended} of {CONNECTIONS} ended ({goaway} with GOAWAY), {:.1} MiB more, {:?} of CPU",
        mib(grown),
        cpu(gateway).saturating_sub(time)
    );
    assert!(grown <= GROWTH_MAX, "{name}: {:.1} MiB more", mib(grown));
    ended
}

#[test]
fn floods_of_frames_cost_little_and_end_their_own_connection() {
    let _turn = alone();
    let (_upstream, gateway) = tiny("");
    assert_normal(&gateway);

    let ended = flood(&gateway, "rapid reset (CVE-2023-44487)", |n, bytes| {
        let stream = 2 * n + 1;
        frame(bytes, HEADERS, END_HEADERS | END_STREAM, stream, &get());
        frame(bytes, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    });
    assert_eq!(ended, CONNECTIONS);

    // An increment of nothing makes the server reset the stream itself.
    let ended = flood(&gateway, "MadeYouReset (CVE-2025-8671)", |n, bytes| {
        let stream = 2 * n + 1;
        frame(bytes, HEADERS, END_HEADERS, stream, &get());
        frame(bytes, WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes());
    });
    assert_eq!(ended, CONNECTIONS);

    let ended = flood(&gateway, "CONTINUATION without end", |n, bytes| {
        if n == 0 {
            frame(bytes, HEADERS, END_STREAM, 1, &get());
        }
        // A literal field, never indexed, of a kilobyte.
        let mut field = vec![0x10, 1, b'x', 0x7f, 0x81, 0x07];
        field.resize(field.len() + 1024, b'y');
        frame(bytes, CONTINUATION, 0, 1, &field);
    });
    assert_eq!(ended, CONNECTIONS);

    let ended = flood(&gateway, "empty CONTINUATION", |n, bytes| {
        if n == 0 {
            frame(bytes, HEADERS, END_STREAM, 1, &get());
        }
        frame(bytes, CONTINUATION, 0, 1, b"");
    });
    assert_eq!(ended, CONNECTIONS);

    // These are answered one by one, at the pace at which the client reads.
    flood(&gateway, "PING", |_, bytes| frame(bytes, PING, 0, 0, &[0; 8]));
    flood(&gateway, "SETTINGS", |_, bytes| frame(bytes, SETTINGS, 0, 0, b""));

    assert_normal(&gateway);
    assert_eq!(gateway.metric("forebay_panics_total"), 0.0);
}
