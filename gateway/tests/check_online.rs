//! `forebay check` and its exit codes, and what `--online` adds.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::process::Output;

use loadtest::{Profile, Upstream};
use support::{HEAD, TempDir, backend, backend_at, command};

fn check(text: &str, flags: &[&str]) -> (Option<i32>, String, String) {
    let dir = TempDir::new();
    let file = dir.path().join("forebay.toml");
    std::fs::write(&file, text).unwrap();
    let Output { status, stdout, stderr } =
        command().args(["check", file.to_str().unwrap()]).args(flags).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn exit_codes_tell_valid_doubtful_and_wrong_apart() {
    let good = format!("{HEAD}{}", backend_at("a", "vllm", "http://127.0.0.1:1"));
    let doubtful = format!("{good}[[model]]\nname = \"m\"\nfallbacks = [\"nobody\"]\n");
    let code = |text: &str, flags: &[&str]| check(text, flags).0;
    assert_eq!((code(&good, &[]), code(&good, &["--strict"])), (Some(0), Some(0)));
    assert_eq!((code(&doubtful, &[]), code(&doubtful, &["--strict"])), (Some(0), Some(1)));
    let wrong = doubtful + "nonsense = 1\n";
    assert_eq!((code(&wrong, &[]), code(&wrong, &["--strict"])), (Some(78), Some(78)));
}

#[test]
fn online_says_how_each_backend_is_and_warns_of_those_that_are_not_well() {
    let upstream = Upstream::start(Profile::vllm(&["one", "two"])).unwrap();
    let well = format!("{HEAD}{}", backend("well", "vllm", &upstream));
    let (code, out, err) = check(&well, &["--online", "--strict"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("well") && out.contains("2 models"), "{out}");

    let text = format!("{well}{}", backend_at("gone", "vllm", "http://127.0.0.1:1"));
    let (code, out, err) = check(&text, &["--online"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("gone"), "{out}");
    let line = text.lines().position(|line| line.ends_with(":1\"")).unwrap() + 1;
    for word in
        ["W007", "\"gone\" cannot be reached", &format!("forebay.toml:{line}:7"), "is valid"]
    {
        assert!(err.contains(word), "{word}: {err}");
    }
    assert_eq!(check(&text, &["--online", "--strict"]).0, Some(1));
    assert_eq!(check(&text, &["--strict"]).0, Some(0), "nobody is asked unless told to");

    let (code, out, _) = check(&text, &["--online", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["warnings"]), (Some(0), &1.into()));
    let backends = document["backends"].as_array().unwrap();
    let of = |name: &str| backends.iter().find(|backend| backend["name"] == name).unwrap();
    assert_eq!((&of("well")["health"], &of("well")["models"]), (&"passed".into(), &2.into()));
    assert_eq!((&of("gone")["health"], &of("gone")["models"]), (&"failed".into(), &().into()));
    assert!(of("gone")["reason"].is_string(), "{document}");
}
