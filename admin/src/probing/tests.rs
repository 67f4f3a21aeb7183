//! Against scripted servers of every kind.

use std::time::Duration;

use loadtest::{Fixed, Kind as Plays, Profile, Upstream};

use super::*;

async fn test_of(url: &str, kind: Option<Kind>, key: Option<&str>) -> Report {
    let key = key.map(Secret::new);
    let target = Target::parse(url).unwrap();
    test(&Outbound::default(), target, kind, key.as_ref()).await
}

#[tokio::test]
async fn each_kind_is_told_from_its_answers() {
    for (plays, kind, version) in [
        (Plays::Vllm, "vllm", Some("0.33.0")),
        (Plays::Ollama, "ollama", Some("0.24.0")),
        (Plays::LlamaServer, "openai", None),
        (Plays::Tei, "tei", Some("0.33.0")),
        (Plays::Plain, "openai", None),
    ] {
        let upstream = Upstream::start(Profile::new(plays, &["tiny"])).unwrap();
        let report = test_of(&upstream.url(), None, None).await;
        assert_eq!(report.error, None, "{plays:?}");
        assert_eq!((report.ok, report.kind), (true, Some(kind)), "{plays:?}");
        assert_eq!(report.version.as_deref(), version, "{plays:?}");
        assert_eq!(report.models.len(), 1, "{plays:?}");
        assert!(report.latency_ms.unwrap() > 0.0);
        assert!(report.capabilities.contains(&"embeddings"), "{plays:?}");
        let generated = upstream.stats().inference_requests;
        assert_eq!(generated, 0, "a test costs no token");
    }
}

#[tokio::test]
async fn what_is_stated_is_held_against_what_answers() {
    let vllm = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    assert!(test_of(&vllm.url(), Some(Kind::Vllm), None).await.ok);
    assert!(test_of(&vllm.url(), Some(Kind::OpenAi), None).await.ok);
    let report = test_of(&vllm.url(), Some(Kind::Ollama), None).await;
    assert_eq!(report.error.unwrap().code, "kind_mismatch");
    assert_eq!(report.kind, Some("vllm"));
    let ollama = Upstream::start(Profile::ollama(&["tiny"])).unwrap();
    assert_eq!(
        test_of(&ollama.url(), Some(Kind::Vllm), None).await.error.unwrap().code,
        "kind_mismatch"
    );
}

#[tokio::test]
async fn failures_are_told_apart_and_show_nothing() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    upstream.vitals(|vitals| vitals.api_key = Some("right".to_owned()));
    let refused = test_of(&upstream.url(), None, Some("canary-wrong-key")).await;
    assert_eq!(refused.health, Condition::Unauthorized);
    assert_eq!(refused.kind, Some("vllm"));
    assert!(!serde_json::to_string(&refused).unwrap().contains("canary"));
    assert!(test_of(&upstream.url(), None, Some("right")).await.ok);
    upstream.vitals(|vitals| {
        vitals.api_key = None;
        vitals.health = 500;
    });
    assert_eq!(test_of(&upstream.url(), None, None).await.error.unwrap().code, "sick");
    let page = |text: &str| Fixed { status: 200, ..Fixed::json(200, text) };
    upstream.vitals(|vitals| {
        for path in ["/health", "/v1/models", "/version", "/api/version", "/info"] {
            vitals.answers.insert(path.to_owned(), page("<h1>canary page</h1>"));
        }
    });
    let foreign = test_of(&upstream.url(), None, None).await;
    assert_eq!(foreign.error.as_ref().unwrap().code, "not_an_inference_server");
    assert!(!serde_json::to_string(&foreign).unwrap().contains("canary"));
    upstream.vitals(|vitals| {
        for answer in vitals.answers.values_mut() {
            answer.status = 302;
        }
    });
    assert_eq!(test_of(&upstream.url(), None, None).await.error.unwrap().code, "redirect");
    upstream.refuse(true);
    assert_eq!(test_of(&upstream.url(), None, None).await.error.unwrap().code, "refused");
    let metadata = test_of("http://169.254.169.254/latest", None, None).await;
    assert_eq!(metadata.error.unwrap().code, "forbidden_address");
}

#[tokio::test]
async fn a_server_that_loads_is_no_stranger() {
    let upstream = Upstream::start(Profile::llama_server("tiny")).unwrap();
    let loading = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
    upstream.vitals(|vitals| {
        for path in ["/health", "/v1/models"] {
            vitals.answers.insert(path.to_owned(), Fixed::json(503, loading));
        }
    });
    for stated in [None, Some(Kind::OpenAi)] {
        let report = test_of(&upstream.url(), stated, None).await;
        assert_eq!(report.health, Condition::Loading, "{stated:?}");
    }
}

#[tokio::test]
async fn an_ollama_tells_what_is_loaded_and_what_each_model_can_do() {
    let upstream = Upstream::start(Profile::ollama(&["tiny", "big:7b"])).unwrap();
    let show =
        r#"{"capabilities":["completion","tools"],"model_info":{"llama.context_length":4096}}"#;
    let tags = r#"{"models":[{"name":"tiny:latest","size":7,"digest":"d1","details":{"quantization_level":"Q4_K_M","parameter_size":"1B","family":"llama"}},{"name":"alias:latest","size":7,"digest":"d1"},{"name":"big:7b","size":9,"digest":"d2"}]}"#;
    let ps = r#"{"models":[{"name":"tiny:latest","digest":"d1","size":8,"size_vram":6,"context_length":2048}]}"#;
    upstream.vitals(|vitals| {
        for (path, page) in [("/api/show", show), ("/api/tags", tags), ("/api/ps", ps)] {
            vitals.answers.insert(path.to_owned(), Fixed::json(200, page));
        }
    });
    let client = Outbound::default();
    let at = client.locate(Target::parse(&upstream.url()).unwrap()).await.unwrap();
    let found = models(&client, &at, Kind::Ollama, None).await.unwrap();
    let [tiny, alias, big] = &found[..] else { panic!("{found:?}") };
    assert_eq!((tiny.loaded, tiny.vram, tiny.context_length), (Some(true), Some(6), Some(2048)));
    assert_eq!((tiny.quantisation.as_deref(), tiny.size), (Some("Q4_K_M"), Some(7)));
    assert_eq!(tiny.capabilities, ["completion", "tools"]);
    assert_eq!((alias.loaded, alias.vram), (Some(true), Some(6)));
    assert_eq!((big.loaded, big.context_length), (Some(false), Some(4096)));
}

#[test]
fn lists_are_kept_for_a_while_and_by_url() {
    let inventory = Inventory::default();
    let now = Instant::now();
    inventory.put("a", "http://one", Vec::new().into(), now);
    assert!(inventory.get("a", "http://one", now).is_some());
    assert!(inventory.get("a", "http://two", now).is_none());
    assert!(inventory.get("a", "http://one", now + Duration::from_secs(30)).is_none());
}
