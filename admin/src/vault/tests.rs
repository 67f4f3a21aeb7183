use proptest::prelude::*;
use router::spec::Secret;
use zeroize::Zeroizing;

use super::rotate::rotate_batch;
use super::*;
use crate::store::{Role, SealedRow, Store, StoreError};

const CANARY: &str = "sk-canary-0123456789abcdef";

fn key(byte: u8) -> MasterKey {
    MasterKey::new(&Zeroizing::new([byte; 32]))
}

fn record(id: &str) -> RecordId {
    RecordId::new("backend", id, "api_key")
}

fn secret() -> Secret {
    Secret::new(CANARY)
}

#[test]
fn the_cipher_is_the_one_of_the_draft() {
    // draft-irtf-cfrg-xchacha-03, A.3.1.
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    use chacha20poly1305::{XChaCha20Poly1305, XNonce};
    let bytes = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    };
    let msg = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
               sunscreen would be it.";
    let key: [u8; 32] = std::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
    let nonce: [u8; 24] = std::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap());
    let aad = bytes("50515253c0c1c2c3c4c5c6c7");
    let expected = bytes(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb
         731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452
         2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9
         21f9664c97637da9768812f615c68b13b52e
         c0875924c1c7987947deafd8780acf49",
    );
    let cipher = XChaCha20Poly1305::new(&key.into());
    let payload = Payload { msg: msg.as_bytes(), aad: &aad };
    assert_eq!(cipher.encrypt(&XNonce::from(nonce), payload).unwrap(), expected);
}

#[test]
fn a_sealed_secret_opens_for_its_record_alone() {
    let vault = Vault::new(vec![key(1)]);
    let sealed = vault.seal(&record("a"), &secret()).unwrap();
    assert_eq!(vault.open(&record("a"), &sealed).unwrap().expose(), CANARY);
    for other in [
        record("b"),
        RecordId::new("backend", "a", "ca"),
        RecordId::new("model", "a", "api_key"),
        RecordId::new("backen", "da", "api_key"),
    ] {
        assert_eq!(vault.open(&other, &sealed), Err(VaultError::Refused(other)));
    }
}

#[test]
fn no_bit_of_it_may_change() {
    let vault = Vault::new(vec![key(1)]);
    let sealed = vault.seal(&record("a"), &secret()).unwrap();
    for bit in 0..sealed.bytes.len() * 8 {
        let mut changed = sealed.clone();
        changed.bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(vault.open(&record("a"), &changed), Err(VaultError::Refused(record("a"))));
    }
    for length in 0..sealed.bytes.len() {
        let cut = Sealed { bytes: sealed.bytes[..length].to_vec(), ..sealed.clone() };
        assert_eq!(vault.open(&record("a"), &cut), Err(VaultError::Refused(record("a"))));
    }
}

#[test]
fn another_key_opens_nothing_and_says_which_is_missing() {
    let sealed = Vault::new(vec![key(1)]).seal(&record("a"), &secret()).unwrap();
    let missing = VaultError::UnknownKey(key(1).id().to_string());
    assert_eq!(Vault::new(vec![key(2)]).open(&record("a"), &sealed), Err(missing));
    assert_eq!(Vault::none().open(&record("a"), &sealed), Err(VaultError::NoKey));
    assert_eq!(Vault::none().seal(&record("a"), &secret()), Err(VaultError::NoKey));
    // A row that claims to be under a key that is here.
    let claimed = Sealed { key_id: key(2).id().to_string(), ..sealed };
    let refused = VaultError::Refused(record("a"));
    assert_eq!(Vault::new(vec![key(2)]).open(&record("a"), &claimed), Err(refused));
}

#[test]
fn keys_are_read_in_every_usual_form() {
    let id = key(0xfb).id().clone();
    for text in [
        "fb".repeat(32),
        "FB".repeat(32),
        "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=".to_owned(),
        "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s".to_owned(),
        " -_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s\n".to_owned(),
    ] {
        assert_eq!(MasterKey::parse(&text).map(|key| key.id().clone()), Ok(id.clone()), "{text}");
    }
    for text in [String::new(), "fb".repeat(31), "fg".repeat(32), "+/v7".to_owned()] {
        assert!(MasterKey::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn what_may_be_shown_of_a_secret_says_little() {
    let vault = Vault::new(vec![key(1)]);
    let seal = |vault: &Vault, text: &str| vault.seal(&record("a"), &Secret::new(text)).unwrap();
    assert_eq!(seal(&vault, CANARY).last4.as_deref(), Some("cdef"));
    assert_eq!(seal(&vault, "12345678901").last4, None);
    assert_eq!(seal(&vault, "12345678ü0äß").last4.as_deref(), Some("ü0äß"));
    // Equal for equal secrets, wherever they are; different under another master key.
    let elsewhere = vault.seal(&record("b"), &secret()).unwrap();
    assert_eq!(seal(&vault, CANARY).fingerprint, elsewhere.fingerprint);
    assert_ne!(seal(&vault, CANARY).bytes, seal(&vault, CANARY).bytes);
    let other = seal(&Vault::new(vec![key(2)]), CANARY);
    assert_ne!(elsewhere.fingerprint, other.fingerprint);
}

#[test]
fn nothing_that_can_be_printed_shows_a_secret() {
    let vault = Vault::new(vec![key(1)]);
    let sealed = vault.seal(&record("a"), &secret()).unwrap();
    let row = sealed.clone().into_row("se_1", &record("a"), 1);
    let errors = [
        vault.open(&record("b"), &sealed).unwrap_err(),
        Vault::none().open(&record("a"), &sealed).unwrap_err(),
        Vault::new(vec![key(2)]).open(&record("a"), &sealed).unwrap_err(),
    ];
    let mut shown = format!("{vault:?} {sealed:?} {row:?} {:?} {:?}", secret(), record("a"));
    for error in errors {
        shown += &format!("{error} {error:?}");
    }
    shown += &format!("{:?}", MasterKey::parse(CANARY).err());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(!shown.contains(&"01".repeat(8)), "{shown}");
    assert!(!shown.contains("1, 1, 1, 1"), "{shown}");
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db"), Role::Writer).unwrap();
    (folder, store)
}

fn filled(store: &Store, vault: Vault, count: usize) {
    let filling = store.write_blocking(move |tx| {
        for number in 0..count {
            let record = record(&number.to_string());
            let sealed = vault.seal(&record, &Secret::new(&format!("{CANARY}{number}")))?;
            tx.put_sealed(&sealed.into_row(&format!("se_{number:03}"), &record, 1))?;
        }
        Ok::<_, VaultError>(())
    });
    filling.unwrap();
}

fn rows(store: &Store) -> Vec<SealedRow> {
    store.read_blocking(|tx| tx.sealed_rows(1000, "")).unwrap()
}

#[test]
fn a_missing_master_key_stops_the_start_and_is_named() {
    let (_folder, store) = store();
    let check = |vault: Vault| store.read_blocking(move |tx| vault.check(tx));
    assert_eq!(check(Vault::none()), Ok(()), "nothing is sealed yet");
    filled(&store, Vault::new(vec![key(1)]), 3);
    assert_eq!(check(Vault::new(vec![key(1)])), Ok(()));
    assert_eq!(check(Vault::new(vec![key(2), key(1)])), Ok(()));
    for vault in [Vault::none(), Vault::new(vec![key(2)])] {
        let text = check(vault).unwrap_err().to_string();
        assert!(text.contains(key(1).id().as_str()), "{text}");
        assert!(text.contains("store.master_key") && text.contains("FOREBAY_MASTER_KEY"), "{text}");
    }
}

#[test]
fn the_file_holds_no_secret_and_no_key() {
    let (folder, store) = store();
    filled(&store, Vault::new(vec![key(0x5a)]), 50);
    let files = ["store.db", "store.db-wal"].map(|name| folder.path().join(name));
    let bytes: Vec<u8> = files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    let holds = |what: &[u8]| bytes.windows(what.len()).any(|part| part == what);
    assert!(holds(b"api_key"), "the rows are there");
    assert!(!holds(b"canary"));
    assert!(!holds(&[0x5a; 16]));
}

#[tokio::test]
async fn a_rotation_seals_everything_again_and_names_what_does_not_open() {
    let (_folder, store) = store();
    filled(&store, Vault::new(vec![key(1)]), 200);
    let broken = store.write(|tx| {
        let mut row = tx.sealed("se_100")?.unwrap();
        row.sealed[30] ^= 1;
        tx.put_sealed(&row)
    });
    broken.await.unwrap();
    let both = std::sync::Arc::new(Vault::new(vec![key(2), key(1)]));
    let rotated = rotate(&store, &both).await.unwrap();
    assert_eq!(rotated, Rotated { resealed: 199, refused: vec![record("100")] });
    let new = Vault::new(vec![key(2)]);
    for row in rows(&store).into_iter().filter(|row| row.id != "se_100") {
        let number: usize = row.owner_id.parse().unwrap();
        assert_eq!(new.open_row(&row).unwrap().expose(), format!("{CANARY}{number}"));
    }
    let again = rotate(&store, &both).await.unwrap();
    assert_eq!(again, Rotated { resealed: 0, refused: vec![record("100")] });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_text_comes_back(text in ".{0,200}", id in ".{0,20}") {
        let vault = Vault::new(vec![key(1)]);
        let sealed = vault.seal(&record(&id), &Secret::new(&text)).unwrap();
        let opened = vault.open(&record(&id), &sealed).unwrap();
        prop_assert_eq!(opened.expose(), text);
    }

    /// A rotation that ends after any number of rows, within a batch or between two, and the next one too.
    #[test]
    fn an_interrupted_rotation_leaves_every_secret_readable(
        count in 1_usize..30,
        batches in prop::collection::vec((1_usize..8, any::<bool>()), 0..8),
    ) {
        let (_folder, store) = store();
        filled(&store, Vault::new(vec![key(1)]), count);
        let mut after = String::new();
        for (limit, interrupted) in batches {
            let from = after.clone();
            let done = store.write_blocking(move |tx| {
                let vault = Vault::new(vec![key(2), key(1)]);
                let batch = rotate_batch(tx, &vault, &from, limit)?;
                match interrupted {
                    true => Err(VaultError::Store(StoreError::Gone)),
                    false => Ok(batch.last),
                }
            });
            if let Ok(Some(last)) = done { after = last; }
            let both = Vault::new(vec![key(2), key(1)]);
            let readable = rows(&store).iter().filter(|row| both.open_row(row).is_ok()).count();
            prop_assert_eq!(readable, count);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(rotate(&store, &Vault::new(vec![key(2), key(1)]).into())).unwrap();
        let new = Vault::new(vec![key(2)]);
        prop_assert_eq!(rows(&store).iter().filter(|row| new.open_row(row).is_ok()).count(), count);
    }
}
