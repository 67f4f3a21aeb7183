//! Texts of versions as they are stored: a large registry keeps a thousand of them, and they are much alike within.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// What a packed text begins with; JSON begins otherwise.
const MARK: &str = "lz4:";
/// Shorter texts stay readable with any tool, bytes.
const PACKED_FROM: usize = 4 << 10;
/// Largest text that is unpacked, bytes.
const SIZE_MAX: usize = 256 << 20;

/// Packs a text if that is worth it.
pub(super) fn pack(text: String) -> String {
    if text.len() < PACKED_FROM {
        return text;
    }
    let packed = lz4_flex::block::compress_prepend_size(text.as_bytes());
    format!("{MARK}{}", STANDARD_NO_PAD.encode(packed))
}

/// The text that was packed; `None` = it is damaged.
pub(super) fn unpack(text: &str) -> Option<String> {
    let Some(packed) = text.strip_prefix(MARK) else { return Some(text.to_owned()) };
    let packed = STANDARD_NO_PAD.decode(packed).ok()?;
    let (size, packed) = lz4_flex::block::uncompressed_size(&packed).ok()?;
    if size > SIZE_MAX {
        return None;
    }
    String::from_utf8(lz4_flex::block::decompress(packed, size).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_comes_back(text in ".{0,40}", times in 1..400_usize) {
            let text = format!("{{{}}}", text.repeat(times));
            prop_assert_eq!(unpack(&pack(text.clone())), Some(text));
        }

        #[test]
        fn damage_is_no_panic(text in "[A-Za-z0-9+/]{0,80}") {
            let _ = unpack(&format!("{MARK}{text}"));
        }
    }

    #[test]
    fn what_is_alike_becomes_small() {
        let one = |n: usize| format!("{{\"kind\":\"model\",\"name\":\"m{n}\",\"revision\":{n}}},");
        let text: String = (0..2000).map(one).collect();
        let packed = pack(text.clone());
        println!("{} bytes packed to {}", text.len(), packed.len());
        assert!(packed.len() * 2 < text.len());
    }
}
