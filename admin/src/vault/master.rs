//! Master keys. Their bytes are wiped when they are dropped, and there is no way to get at them.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// Which master key: says nothing about its bytes, and is kept with everything that it seals. 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyId(String);

impl KeyId {
    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a master key is 32 bytes as 64 hexadecimal digits or as base64; make one with: openssl rand -hex 32"
)]
pub struct KeyError;

/// A key that seals. What it is used for are keys of their own, derived from it.
pub struct MasterKey {
    id: KeyId,
    sealing: Zeroizing<[u8; 32]>,
    marking: Zeroizing<[u8; 32]>,
}

impl MasterKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: &Zeroizing<[u8; 32]>) -> Self {
        let derive = |use_: &str| *blake3::keyed_hash(bytes, use_.as_bytes()).as_bytes();
        let id = derive("forebay vault: key id");
        Self {
            id: KeyId(hex(&id[..8])),
            sealing: Zeroizing::new(derive("forebay vault: sealing")),
            marking: Zeroizing::new(derive("forebay vault: fingerprints")),
        }
    }

    /// Reads 64 hexadecimal digits, or base64 in either alphabet, with padding or without.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; 32]);
        if text.len() == 64 {
            for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
                *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
            }
            return Ok(Self::new(&bytes));
        }
        let alphabet =
            if text.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
        let config =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let decoded = GeneralPurpose::new(&alphabet, config).decode(text);
        let decoded = Zeroizing::new(decoded.map_err(|_| KeyError)?);
        if decoded.len() != bytes.len() {
            return Err(KeyError);
        }
        bytes.copy_from_slice(&decoded);
        Ok(Self::new(&bytes))
    }

    /// Which key this is.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    pub(super) fn sealing(&self) -> &[u8; 32] {
        &self.sealing
    }

    /// Tells equal secrets from different ones. Keyed, so that who has the store alone cannot try out secrets.
    pub(super) fn fingerprint(&self, secret: &str) -> String {
        hex(&blake3::keyed_hash(&self.marking, secret.as_bytes()).as_bytes()[..8])
    }
}

fn nibble(digit: u8) -> Result<u8, KeyError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(KeyError),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
