//! `forebay explain`, by a look at the servers and through a running admin API.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::{Profile, Upstream};
use serde_json::json;
use support::admin::{Mode, Site, TOKEN};
use support::{TempDir, backend, command};

/// Whether it ended well, and all that it said.
fn explain(arguments: &[&str]) -> (bool, String) {
    let output = command().arg("explain").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_mistyped_model_is_told_its_neighbour() {
    let upstream = Upstream::start(Profile::vllm(&["mistral-7b"])).unwrap();
    let dir = TempDir::new();
    let file = dir.path().join("forebay.toml");
    let table = backend("b", "vllm", &upstream);
    let model = "[[model]]\nname = \"llama\"\naliases = [\"gpt-4o-mini\"]\n";
    std::fs::write(&file, format!("version = 1\n{table}{model}")).unwrap();
    let explain = |model: &str| explain(&["--config", file.to_str().unwrap(), model]);
    let (served, said) = explain("mistral-7b");
    assert!(served && said.contains("attempt 1"), "{said}");
    for (wrong, right) in [("mistal-7b", "mistral-7b"), ("gpt4o-mini", "gpt-4o-mini")] {
        let (served, said) = explain(wrong);
        assert!(!served && said.contains(&format!("did you mean {right:?}?")), "{said}");
    }
    let (served, said) = explain("something-else");
    assert!(!served && !said.contains("did you mean"), "{said}");
}

#[test]
fn a_running_gateway_says_the_same() {
    let upstream = Upstream::start(Profile::vllm(&["mistral-7b"])).unwrap();
    let site = Site::start(Mode::Embedded);
    let body = json!({"name": "b", "kind": "vllm", "region": "eu", "url": upstream.url()});
    site.admin.post("/admin/backends", &body);
    site.gateway.wait_for_model("mistral-7b");
    let url = format!("http://{}", site.gateway.admin());
    let ask = |model: &str, token: &str| explain(&["--admin", &url, "--token", token, model]);
    let (served, said) = ask("mistral-7b", TOKEN);
    assert!(served && said.contains("\"attempt\": 1"), "{said}");
    let (served, said) = ask("mistal-7b", TOKEN);
    assert!(!served && said.contains("did you mean \\\"mistral-7b\\\"?"), "{said}");
    let (served, said) = ask("mistral-7b", "other");
    assert!(!served && said.contains("--token"), "{said}");
}
