use super::*;

macro_rules! body {
    ($name:literal) => {
        include_bytes!(concat!("../../../fuzz/corpus/models/", $name))
    };
}

fn names(models: &[DiscoveredModel]) -> Vec<&str> {
    models.iter().map(|model| model.name.as_str()).collect()
}

#[test]
fn lists_of_every_server() {
    let vllm = openai_list(body!("vllm")).unwrap().models;
    assert_eq!(names(&vllm), ["tiny"]);
    assert_eq!(vllm[0].context_length, Some(2048));
    assert_eq!(vllm[0].owned_by.as_deref(), Some("vllm"));
    assert_eq!(vllm[0].created, Some(1_795_252_027));

    let lora = openai_list(body!("vllm-lora")).unwrap().models;
    assert_eq!(lora[1].parent.as_deref(), Some("base"));
    assert_eq!((lora[0].parent.as_ref(), lora[1].context_length), (None, None));

    let llama = openai_list(body!("llamacpp")).unwrap().models;
    assert_eq!((names(&llama), llama[0].context_length), (vec!["tiny"], Some(2048)));
    let native = br#"{"models":[{"name":"tiny","model":"tiny"}]}"#;
    assert_eq!(names(&openai_list(native).unwrap().models), ["tiny"]);

    assert_eq!(openai_list(body!("null")).unwrap(), Listing::default());
}

#[test]
fn bad_entries_are_left_out() {
    let listing = openai_list(body!("odd")).unwrap();
    assert_eq!((names(&listing.models), listing.skipped), (vec!["ok"], 7));
    let many: Vec<_> =
        (0..=MODELS_MAX).map(|id| serde_json::json!({ "id": id.to_string() })).collect();
    let listing = openai_list(serde_json::json!({ "data": many }).to_string().as_bytes()).unwrap();
    assert_eq!((listing.models.len(), listing.skipped), (MODELS_MAX, 1));
}

#[test]
fn what_is_no_list_says_so() {
    assert!(matches!(openai_list(b"<html>"), Err(ListError::NotJson(_))));
    assert_eq!(openai_list(b"{}"), Err(ListError::Shape("data")));
    assert_eq!(openai_list(b"[]"), Err(ListError::Shape("data")));
    assert_eq!(ollama_tags(b"{\"models\":{}}"), Err(ListError::Shape("models")));
    let long = vec![b' '; LIST_MAX_BYTES + 1];
    assert_eq!(openai_list(&long), Err(ListError::TooLong(long.len())));
    assert_eq!(version(b"{\"version\":\"\"}"), Err(ListError::Shape("version")));
    assert_eq!(version(body!("version")).as_deref(), Ok("0.24.0"));
}

#[test]
fn ollama_says_digests_and_what_is_remote() {
    let tags = ollama_tags(body!("ollama-tags")).unwrap().models;
    assert_eq!(tags[0].name.as_str(), "tools:latest");
    assert!(tags[0].digest.as_deref().is_some_and(|digest| digest.starts_with("28b33a8ad")));
    assert!(tags.iter().all(|model| !model.remote));
    let cloud = ollama_tags(body!("ollama-cloud")).unwrap().models;
    let remote: Vec<bool> = cloud.iter().map(|model| model.remote).collect();
    assert_eq!(remote, [true, true, false]);

    let loaded = ollama_loaded(body!("ollama-ps")).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!((loaded[0].size, loaded[0].size_vram), (3_938_304, 0));
    assert_eq!(loaded[0].context_length, Some(2048));
    assert_eq!(ollama_loaded(b"{\"models\":[]}"), Ok(Vec::new()));
}

#[test]
fn cloud_names() {
    for name in ["foo:cloud", "x:1b-cloud", "a/b:Cloud", "gpt-oss:120B-CLOUD"] {
        assert!(is_cloud(name), "{name}");
    }
    for name in ["cloud", "foo-cloud", "cloud:latest", "foo:cloudy", "foo:1b"] {
        assert!(!is_cloud(name), "{name}");
    }
}

#[test]
fn our_own_list() {
    let base = ListedModel {
        id: "a\"b",
        created: 7,
        owned_by: Some("eu"),
        parent: None,
        max_model_len: None,
    };
    let nobody = ListedModel { owned_by: None, ..base };
    let lora = ListedModel { id: "l", parent: Some("a"), max_model_len: Some(2048), ..base };
    let body = list([base, lora]);
    insta::assert_snapshot!(
        std::str::from_utf8(&body).unwrap(),
        @r#"{"object":"list","data":[{"id":"a\"b","object":"model","created":7,"owned_by":"eu"},{"id":"l","object":"model","created":7,"owned_by":"eu","parent":"a","max_model_len":2048}]}"#
    );
    insta::assert_snapshot!(
        std::str::from_utf8(&one(&base)).unwrap(),
        @r#"{"id":"a\"b","object":"model","created":7,"owned_by":"eu"}"#
    );
    assert!(one(&nobody).ends_with(br#""owned_by":"forebay"}"#));
    insta::assert_snapshot!(std::str::from_utf8(&list([])).unwrap(), @r#"{"object":"list","data":[]}"#);
}
