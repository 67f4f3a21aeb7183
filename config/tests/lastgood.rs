//! The last good texts survive, unexpanded, complete and private.

mod common;

use std::fs;
use std::path::Path;

use common::World;
use config::{LastGood, LastGoodError, load, load_text};

const TEXT: &str = "[[backend]]\nname = 'a'\nkind = 'vllm'\nurl = 'http://x'\napi_key = '${KEY}'\n";

fn world() -> World {
    let mut world = World::default();
    world.vars.insert("KEY".into(), "sk-canary".into());
    world
}

#[test]
fn what_was_good_is_good_again() {
    let folder = tempfile::tempdir().unwrap();
    let last = LastGood::beside(&folder.path().join("data/forebay.db"));
    assert!(last.load(&world()).unwrap().is_none());
    let mut world = world();
    world.files.insert("/c/main.toml".into(), format!("include = ['more.toml']\n{TEXT}"));
    world.files.insert("/c/more.toml".into(), "[store]\npath = 'x.db'\n".into());
    let loaded = load(&["/c/main.toml".into()], &world).unwrap();
    last.save(&loaded).unwrap();
    // The files are gone now.
    world.files.clear();
    let again = last.load(&world).unwrap().unwrap();
    assert_eq!(again.config, loaded.config);
    assert_eq!(again.config.store.path, Path::new("/c/x.db"));
    let stored = fs::read_to_string(last.path()).unwrap();
    assert!(!stored.contains("canary"), "variables stay unexpanded");
    assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 1, "no rubbish is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(last.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let last = LastGood::beside(&folder.path().join("forebay.db"));
    let loaded = load_text("f", TEXT, Path::new("/"), &world()).unwrap();
    last.save(&loaded).unwrap();
    let good = fs::read_to_string(last.path()).unwrap();
    for bad in [&good[..good.len() / 2], "", "{}", &good.replace("vllm", "tei!")] {
        fs::write(last.path(), bad).unwrap();
        assert!(matches!(last.load(&world()), Err(LastGoodError::Damaged { .. })), "{bad}");
    }
    fs::write(last.path(), &good).unwrap();
    assert!(matches!(last.load(&World::default()), Err(LastGoodError::Refused(_))), "KEY is gone");
}
