//! Ids of stored things.

/// Characters of the random part: 32 of them make 5 bits each, none is taken for another when read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of the random part: 100 bits, so that nobody needs to look whether an id is taken.
const LENGTH: usize = 20;

/// A new id: what it is of, an underscore, and a random part. It is a name and no secret.
#[must_use]
pub fn new_id(prefix: &str, rng: &mut fastrand::Rng) -> String {
    let random = (0..LENGTH).map(|_| char::from(ALPHABET[rng.usize(..ALPHABET.len())]));
    format!("{prefix}_{}", random.collect::<String>())
}
