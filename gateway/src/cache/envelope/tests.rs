use std::fs;
use std::path::Path;

use super::super::envelope;

#[path = "../../../../fuzz/envelope_check.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz target")]
mod envelope_check;

#[test]
fn the_corpus_of_stored_answers_is_read_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/envelope");
    let mut read = 0;
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        envelope_check::envelope(&bytes);
        read += usize::from(envelope::read(&bytes, 4 << 10).is_ok());
        count += 1;
    }
    assert!(count >= 15 && (4..count).contains(&read), "{read} of {count}");
}
