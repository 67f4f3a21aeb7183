//! Against real sockets, with a resolver that may lie.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use router::spec::Secret;

use super::*;

/// Gives each of its answers once, in order, then the last one.
struct Scripted {
    answers: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Scripted {
    fn resolve<'r>(&'r self, _: &'r str, port: u16) -> Resolving<'r> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let mut found = self.answers[asked].clone();
        for address in &mut found {
            address.set_port(port);
        }
        Box::pin(async move { Ok(found) })
    }
}

fn client(resolver: &Arc<Scripted>) -> Outbound {
    Outbound::new(Arc::clone(resolver) as Arc<dyn Resolve>, Duration::from_millis(500))
}

/// A server that answers every connection with these bytes, then keeps it open, or closes it.
fn server(answer: Vec<u8>, keep: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            count.fetch_add(1, Ordering::SeqCst);
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(&answer);
            if keep {
                kept.push(socket);
            }
        }
    });
    (address, served)
}

async fn ask(client: &Outbound, url: &str) -> Result<Reply, OutboundError> {
    let at = client.locate(Target::parse(url)?).await?;
    client.ask(&at, Ask::get("/v1/models", None)).await
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn a_name_that_changes_its_mind_changes_nothing() {
    let (address, served) = server(ok("{}"), false);
    let resolver = Scripted::new(&[&["127.0.0.1:0"], &["169.254.169.254:0"]]);
    let client = client(&resolver);
    let url = format!("http://rebinding.test:{}", address.port());
    let at = client.locate(Target::parse(&url).unwrap()).await.unwrap();
    for _ in 0..3 {
        let reply = client.ask(&at, Ask::get("/v1/models", None)).await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"{}"[..]));
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    assert_eq!(served.load(Ordering::SeqCst), 3);
    let error = client.locate(Target::parse(&url).unwrap()).await.unwrap_err();
    assert_eq!(error.code(), "forbidden_address");
}

#[tokio::test]
async fn one_forbidden_address_among_good_ones_is_enough() {
    let (address, served) = server(ok("{}"), false);
    let resolver = Scripted::new(&[&["127.0.0.1:0", "[::ffff:169.254.169.254]:0"]]);
    let url = format!("http://mixed.test:{}", address.port());
    let error = ask(&client(&resolver), &url).await.unwrap_err();
    assert_eq!(error.code(), "forbidden_address");
    assert_eq!(served.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn addresses_written_in_odd_ways_are_what_they_are() {
    for url in [
        "http://169.254.169.254",
        "http://[fe80::1]:80",
        "http://[::ffff:a9fe:a9fe]",
        "http://0.0.0.0:8000",
        "http://2852039166",
        "http://0xa9fea9fe",
        "http://169.254.43518",
    ] {
        let error = ask(&Outbound::default(), url).await.unwrap_err();
        // A system whose resolver knows no such forms says that there is no such name.
        assert!(matches!(error.code(), "forbidden_address" | "dns"), "{url}: {error}");
    }
}

#[tokio::test]
async fn urls_that_hide_something_are_none() {
    for url in [
        "http://user:pw@127.0.0.1",
        "http://127.0.0.1@evil.test",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "http://127.0.0.1/?x",
        "http://127.0.0.1#@evil.test",
        "http://a b",
        "http://",
    ] {
        assert_eq!(Target::parse(url).unwrap_err().code(), "invalid_url", "{url}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let (elsewhere, reached) = server(ok("{}"), false);
    let head = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{elsewhere}/v1/models\r\ncontent-length: 0\r\n\r\n"
    );
    let (address, _) = server(head.into_bytes(), false);
    let reply = ask(&Outbound::default(), &format!("http://{address}")).await.unwrap();
    assert_eq!(reply.status, 307);
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn each_failure_has_its_own_word() {
    let resolver = Scripted::new(&[&["127.0.0.1:0"]]);
    let client = client(&resolver);
    let (silent, _) = server(Vec::new(), true);
    assert_eq!(ask(&client, &format!("http://{silent}")).await.unwrap_err().code(), "timeout");
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1234".to_vec();
    let (slow, _) = server(half.clone(), true);
    assert_eq!(ask(&client, &format!("http://{slow}")).await.unwrap_err().code(), "timeout");
    let (cut, _) = server(half, false);
    assert_eq!(ask(&client, &format!("http://{cut}")).await.unwrap_err().code(), "not_http");
    let (huge, _) = server(ok(&"x".repeat(ANSWER_MAX + 1)), false);
    assert_eq!(
        ask(&client, &format!("http://{huge}")).await.unwrap_err().code(),
        "answer_too_long"
    );
    let (plain, _) = server(ok("{}"), false);
    assert_eq!(ask(&client, &format!("https://{plain}")).await.unwrap_err().code(), "tls");
    let none = Outbound::new(Scripted::new(&[&[]]), DEADLINE);
    assert_eq!(ask(&none, "http://nobody.test").await.unwrap_err().code(), "dns");
    // A socket that is bound and does not listen refuses, and nobody else can take its port.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", bound.local_addr().unwrap());
    assert_eq!(ask(&client, &url).await.unwrap_err().code(), "refused");
}

#[tokio::test]
async fn the_key_goes_to_the_server_and_nowhere_else() {
    let upstream = loadtest::Upstream::start(loadtest::Profile::vllm(&["tiny"])).unwrap();
    upstream.vitals(|vitals| vitals.api_key = Some("canary-secret".to_owned()));
    let client = Outbound::default();
    let at = client.locate(Target::parse(&upstream.url()).unwrap()).await.unwrap();
    let key = Secret::new("canary-secret");
    let ask = Ask::get("/v1/models", Some(&key));
    assert_eq!(client.ask(&at, ask).await.unwrap().status, 200);
    assert_eq!(client.ask(&at, Ask::get("/v1/models", None)).await.unwrap().status, 401);
    assert!(!format!("{ask:?} {at:?}").contains("canary"));
}
