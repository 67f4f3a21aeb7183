//! Sealing and opening: XChaCha20-Poly1305 with a random nonce, which is long enough to be random
//! (draft-irtf-cfrg-xchacha, 24 bytes).

use aws_lc_rs::rand;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use router::spec::Secret;
use zeroize::Zeroizing;

use super::master::MasterKey;
use super::{Vault, VaultError};
use crate::store::SealedRow;

/// The format of what is sealed: its first byte.
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 24;
/// Characters from which on a secret's last four are shown: what is left is still long.
pub const LAST4_FROM: usize = 12;

/// What a secret belongs to. It opens nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordId {
    /// The kind of its owner: `backend`, for one.
    pub owner_kind: String,
    /// The id of its owner, which stays when the owner is renamed.
    pub owner_id: String,
    /// The field that it is the value of: `api_key`, for one.
    pub field: String,
}

impl RecordId {
    /// The field of the owner of this kind and id.
    #[must_use]
    pub fn new(owner_kind: &str, owner_id: &str, field: &str) -> Self {
        let [owner_kind, owner_id, field] = [owner_kind, owner_id, field].map(str::to_owned);
        Self { owner_kind, owner_id, field }
    }

    /// What is authenticated beside the secret; lengths keep neighbours apart.
    fn associated(&self, key_id: &str) -> Vec<u8> {
        let mut data = vec![FORMAT];
        for part in [key_id, &self.owner_kind, &self.owner_id, &self.field] {
            data.extend((part.len() as u64).to_le_bytes());
            data.extend(part.as_bytes());
        }
        data
    }
}

/// A sealed secret, and what may be shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Which key opens it.
    pub key_id: String,
    /// Format, nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
    /// Its last four characters, if it has at least [`LAST4_FROM`].
    pub last4: Option<String>,
    /// Equal for equal secrets under one master key: 16 hexadecimal digits.
    pub fingerprint: String,
}

impl Sealed {
    /// The row that keeps it.
    #[must_use]
    pub fn into_row(self, id: &str, record: &RecordId, now: u64) -> SealedRow {
        SealedRow {
            id: id.to_owned(),
            owner_kind: record.owner_kind.clone(),
            owner_id: record.owner_id.clone(),
            field: record.field.clone(),
            key_id: self.key_id,
            sealed: self.bytes,
            last4: self.last4,
            fingerprint: self.fingerprint,
            updated_at: now,
        }
    }
}

impl Vault {
    /// Seals a secret for one field of one record, under the first key.
    ///
    /// # Errors
    /// [`VaultError::NoKey`]; [`VaultError::NoRandomness`].
    pub fn seal(&self, record: &RecordId, secret: &Secret) -> Result<Sealed, VaultError> {
        let key = self.first()?;
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).map_err(|_| VaultError::NoRandomness)?;
        let bytes = sealed(key, &nonce, record, secret.expose().as_bytes())?;
        Ok(Sealed {
            key_id: key.id().to_string(),
            bytes,
            last4: last4(secret.expose()),
            fingerprint: key.fingerprint(secret.expose()),
        })
    }

    /// Opens a secret that was sealed for this field of this record.
    ///
    /// # Errors
    /// [`VaultError::NoKey`] and [`VaultError::UnknownKey`]; [`VaultError::Refused`] when it was sealed for another record,
    /// or is not what was sealed.
    pub fn open(&self, record: &RecordId, sealed: &Sealed) -> Result<Secret, VaultError> {
        self.open_bytes(record, &sealed.key_id, &sealed.bytes)
    }

    /// Opens the secret of a row.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_row(&self, row: &SealedRow) -> Result<Secret, VaultError> {
        let record = RecordId::new(&row.owner_kind, &row.owner_id, &row.field);
        self.open_bytes(&record, &row.key_id, &row.sealed)
    }

    fn open_bytes(
        &self,
        record: &RecordId,
        key_id: &str,
        bytes: &[u8],
    ) -> Result<Secret, VaultError> {
        let key = self.key(key_id)?;
        let refused = || VaultError::Refused(record.clone());
        let (&format, rest) = bytes.split_first().ok_or_else(refused)?;
        let (nonce, msg) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(refused)?;
        if format != FORMAT {
            return Err(refused());
        }
        let aad = record.associated(key_id);
        let open = cipher(key).decrypt(&XNonce::from(*nonce), Payload { msg, aad: &aad });
        let open = Zeroizing::new(open.map_err(|_| refused())?);
        let text = std::str::from_utf8(&open).map_err(|_| refused())?;
        Ok(Secret::new(text))
    }
}

fn cipher(key: &MasterKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.sealing().into())
}

fn sealed(
    key: &MasterKey,
    nonce: &[u8; NONCE_BYTES],
    record: &RecordId,
    secret: &[u8],
) -> Result<Vec<u8>, VaultError> {
    let aad = record.associated(key.id().as_str());
    let payload = Payload { msg: secret, aad: &aad };
    let cipher = cipher(key).encrypt(&XNonce::from(*nonce), payload);
    // Only a secret of more than 256 GiB is refused.
    let cipher = cipher.map_err(|_| VaultError::Refused(record.clone()))?;
    Ok([&[FORMAT], nonce.as_slice(), &cipher].concat())
}

fn last4(secret: &str) -> Option<String> {
    let count = secret.chars().count();
    (count >= LAST4_FROM).then(|| secret.chars().skip(count - 4).collect())
}
