//! What `/readyz` counts as up: backends that are known to serve.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use support::{Client, Gateway, tiny_backend, wait_until};

fn ready(gateway: &Gateway) -> String {
    let reply = Client::new(gateway.ops).get("/readyz");
    assert_eq!(reply.status, 200);
    reply.text()
}

#[test]
fn a_backend_that_refuses_our_credentials_is_not_up() {
    let (upstream, table) = tiny_backend();
    let gateway = Gateway::start(&format!("{table}[health]\ninterval = \"100ms\"\n"));
    gateway.wait_for_model("tiny");
    wait_until("ready", || ready(&gateway).starts_with("ok: 1 of 1"));
    upstream.vitals(|vitals| vitals.api_key = Some("sk-another".to_owned()));
    assert_eq!(gateway.client().chat("tiny", "").status, 502);
    wait_until("degraded", || ready(&gateway).starts_with("degraded: 0 of 1"));
    upstream.vitals(|vitals| vitals.api_key = None);
    assert_eq!(gateway.client().chat("tiny", "").status, 200);
    wait_until("ready again", || ready(&gateway).starts_with("ok: 1 of 1"));
}
