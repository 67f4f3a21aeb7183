//! What a start says when it cannot: exit codes and messages.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

use support::{Gateway, TempDir, command, tiny_backend};

/// A wrong configuration, as `sysexits.h` numbers it.
const EX_CONFIG: i32 = 78;

/// Every listener on a free port.
const LISTEN: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[ops]\nlisten = \"127.0.0.1:0\"\n\
    [admin]\nmode = \"off\"\n";

fn write(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("forebay.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(stdout.is_empty(), "{}", String::from_utf8_lossy(&stdout));
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn serve(toml: &str) -> (Option<i32>, String) {
    let dir = TempDir::new();
    run(command().current_dir(dir.path()).args(["serve", "--config", &write(&dir, toml)]))
}

#[track_caller]
fn assert_refused(toml: &str, words: &[&str]) {
    let (code, text) = serve(toml);
    assert_eq!(code, Some(EX_CONFIG), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing: {text}");
    }
}

#[test]
fn a_wrong_file_is_78_with_every_mistake_and_its_place() {
    let toml = format!(
        "version = 1\n{LISTEN}[[backend]]\nname = \"a\"\nkind = \"vlm\"\nulr = \"http://x\"\n\
         [timeouts]\nconnect = 2\n"
    );
    assert_refused(
        &toml,
        &["forebay.toml:10:8", "vllm", "forebay.toml:11:1", "url", "forebay.toml:13:11"],
    );
    assert_refused("version = 1\nserver = \n", &["forebay.toml:2"]);
    assert_refused("version = 2\n", &["forebay.toml:1:11"]);
}

#[test]
fn a_file_that_is_not_there_is_78_with_its_name() {
    let (code, text) = run(command().args(["serve", "--config", "no-such-file.toml"]));
    assert_eq!(code, Some(EX_CONFIG), "{text}");
    assert!(text.contains("no-such-file.toml"), "{text}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_78() {
    let missing =
        LISTEN.replacen("[ops]", "[server.tls]\ncert = \"no.pem\"\nkey = \"no.key\"\n[ops]", 1);
    assert_refused(&missing, &["no.pem"]);
    let dir = TempDir::new();
    std::fs::write(dir.path().join("no.pem"), "no certificate").unwrap();
    std::fs::write(dir.path().join("no.key"), "no key").unwrap();
    let (code, text) = run(command().args(["serve", "--config", &write(&dir, &missing)]));
    assert_eq!(code, Some(EX_CONFIG), "{text}");
    assert!(text.contains("no.pem"), "{text}");
}

#[test]
fn a_port_in_use_is_1_and_names_port_and_way_out() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = taken.local_addr().unwrap();
    for (section, variable) in [("server", "FOREBAY_LISTEN"), ("ops", "FOREBAY_OPS_LISTEN")] {
        let toml = LISTEN.replacen(
            &format!("[{section}]\nlisten = \"127.0.0.1:0\""),
            &format!("[{section}]\nlisten = \"{addr}\""),
            1,
        );
        let (code, text) = serve(&toml);
        assert_eq!(code, Some(1), "{text}");
        for word in [&*addr.to_string(), &addr.port().to_string(), variable, "listen"] {
            assert!(text.contains(word), "{word:?} is missing: {text}");
        }
    }
}

#[test]
fn a_second_gateway_on_the_same_port_does_not_start() {
    let gateway = Gateway::start("");
    let toml = LISTEN.replacen("127.0.0.1:0", &gateway.public.to_string(), 1);
    assert_eq!(serve(&toml).0, Some(1));
    assert_eq!(gateway.client().get("/v1/models").status, 200);
}

#[test]
fn an_address_of_another_host_is_said_to_be_one() {
    let toml = LISTEN.replacen("127.0.0.1:0", "203.0.113.1:8080", 1) + "[auth]\nmode = \"open\"\n";
    let (code, text) = serve(&toml);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("203.0.113.1:8080"), "{text}");
}

#[test]
fn the_environment_overrides_the_file_and_is_checked_as_well() {
    let dir = TempDir::new();
    let config = write(&dir, LISTEN);
    let (code, text) = run(command()
        .current_dir(dir.path())
        .env("FOREBAY_LISTEN", "nonsense")
        .args(["serve", "--config", &config]));
    assert_eq!(code, Some(EX_CONFIG), "{text}");
    assert!(text.contains("FOREBAY_LISTEN"), "{text}");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, text) = run(command()
        .current_dir(dir.path())
        .env("FOREBAY_LISTEN", &addr)
        .args(["serve", "--config", &config]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&addr), "{text}");
}

#[test]
fn check_agrees_with_serve() {
    let dir = TempDir::new();
    let (upstream, backend) = tiny_backend();
    let good = write(&dir, &format!("{LISTEN}{backend}"));
    let check = |path: &str| command().args(["check", path]).output().unwrap().status.code();
    assert_eq!(check(&good), Some(0));
    let bad = write(&dir, &format!("{LISTEN}{backend}weight = 0\n"));
    assert_eq!(check(&bad), Some(EX_CONFIG));
    assert_eq!(serve(&std::fs::read_to_string(&bad).unwrap()).0, Some(EX_CONFIG));
    assert_eq!(upstream.stats().requests, 0, "a check asks nobody");
}

#[test]
fn secrets_of_a_wrong_file_are_not_printed() {
    let toml = format!(
        "{LISTEN}[[backend]]\nname = \"a\"\nkind = \"vlm\"\nurl = \"http://127.0.0.1:1\"\n\
         api_key = \"sk-very-secret-1\"\nregion = \"sk-very secret-2\"\n\
         [redis]\nurl = \"redis://:very-secret-3@127.0.0.1\"\nurl2 = 1\n"
    );
    let (code, text) = serve(&toml);
    assert_eq!(code, Some(EX_CONFIG));
    assert!(!text.contains("very-secret-1") && !text.contains("very-secret-3"), "{text}");
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let dir = TempDir::new();
    let config = write(&dir, &format!("include = [\"more.toml\"]\n{LISTEN}"));
    std::fs::write(dir.path().join("more.toml"), "[timeouts]\nconnect = 2\n").unwrap();
    let (code, text) =
        run(command().current_dir(Path::new("/")).args(["serve", "--config", &config]));
    assert_eq!(code, Some(EX_CONFIG), "{text}");
    assert!(text.contains("more.toml:2:11"), "{text}");
}
