use super::*;

macro_rules! page {
    ($name:literal) => {
        parse(include_bytes!(concat!("../../../fuzz/corpus/metrics_text/", $name)))
    };
}

#[test]
fn real_pages() {
    let idle = LoadSignals {
        running: Some(0.0),
        waiting: Some(0.0),
        kv_cache: Some(0.0),
        asleep: Some(false),
    };
    assert_eq!(page!("vllm"), idle);
    assert_eq!(page!("llamacpp"), LoadSignals { kv_cache: None, asleep: None, ..idle });
}

#[test]
fn engines_are_added_up() {
    let expected = LoadSignals {
        running: Some(5.0),
        waiting: Some(1.0),
        kv_cache: Some(0.75),
        asleep: Some(true),
    };
    assert_eq!(page!("engines"), expected);
}

#[test]
fn nonsense_is_passed_over() {
    let expected = LoadSignals { running: Some(10.0), ..LoadSignals::default() };
    assert_eq!(page!("odd"), expected);
    assert_eq!(parse(b""), LoadSignals::default());
    assert_eq!(parse(&[0xff; 100]), LoadSignals::default());
}

#[test]
fn names_must_match_whole() {
    let page = b"vllm:num_requests_running_bucket 5\nxvllm:num_requests_running 5\n\
        vllm:num_requests_waiting_by_reason{reason=\"capacity\"} 5\n# vllm:num_requests_running 5\n";
    assert_eq!(parse(page), LoadSignals::default());
    assert_eq!(parse(b"vllm:num_requests_running\t2\r\n").running, Some(2.0));
}

#[test]
fn a_long_page_is_read_to_its_bound() {
    let mut page = b"vllm:num_requests_running 1\n".repeat(PAGE_MAX_BYTES / 28 + 1000);
    page.truncate(PAGE_MAX_BYTES + 14_000);
    let running = parse(&page).running.unwrap();
    assert!(running <= (PAGE_MAX_BYTES / 28 + 1) as f64, "{running}");
    assert!(running >= (PAGE_MAX_BYTES / 28) as f64, "{running}");
}
