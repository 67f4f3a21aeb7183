//! `/v1/models` over servers that spell the same model in two ways.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::collections::BTreeSet;

use loadtest::{Profile, Upstream};
use support::{Gateway, backend};

#[test]
fn trap_84_latest_is_the_same_model_listed_once_and_served_by_both() {
    let vllm = Upstream::start(Profile::vllm(&["m"])).unwrap();
    let ollama = Upstream::start(Profile::ollama(&["m", "alone"])).unwrap();
    let config = format!(
        "policy = \"round_robin\"\n{}{}",
        backend("v", "vllm", &vllm),
        backend("o", "ollama", &ollama)
    );
    let gateway = Gateway::start(&config);
    gateway.wait_for_backends(2);
    let list = gateway.client().get("/v1/models").json();
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(names, ["alone:latest", "m"]);
    for name in ["m", "m:latest", "alone", "alone:latest"] {
        assert_eq!(gateway.client().get(&format!("/v1/models/{name}")).status, 200, "{name}");
    }
    let mut served = BTreeSet::new();
    for _ in 0..40 {
        let reply = gateway.client().chat("m", "");
        assert_eq!(reply.status, 200);
        served.insert(reply.header("x-forebay-backend").unwrap().to_owned());
    }
    assert_eq!(served.len(), 2, "{served:?}");
}
