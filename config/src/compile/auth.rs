//! Who may call: `[auth]` and `[[key]]`.

use std::collections::BTreeMap;

use router::spec::Secret;
use router::{KeyName, RegionName};

use super::names::Referee;
use super::objects::name;
use super::process::{region, secret};
use super::{Compiler, texts};
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::restriction::{Restriction, RestrictionKind};
use crate::settings::{AuthMode, Config, KeyConfig, KeyLimits, KeySecret};
use crate::tree::Table;

/// A burst may be worth a day of its rate: beyond some weeks the arithmetic of limits would lose count.
const MINUTES_PER_DAY: u64 = 24 * 60;

/// Shortest secret that is not warned about, bytes.
const SECRET_MIN_BYTES: usize = 16;
/// The credential of the documentation.
const SAMPLE: &str = "sk-change-me";

/// A restriction with what to say where it is not enforced.
pub(super) fn restriction(what: RestrictionKind, place: Place, asked: &str) -> Restriction {
    let message = format!("this build does not enforce {asked} yet");
    let diagnostic = Diagnostic::error(Code::NotEnforced, place, message)
        .label("serving without it would be less than what is asked for")
        .help("remove it to serve without the restriction");
    Restriction { what, diagnostic }
}

impl Compiler<'_> {
    /// The mode, the keys and what they restrict.
    pub(super) fn auth(&mut self, config: &mut Config) {
        let tree = self.tree;
        let said = tree.table("auth").and_then(|auth| auth.get("mode"));
        config.auth.said = said.is_some();
        config.auth.mode = match said.and_then(|node| node.text()) {
            Some("keys") => AuthMode::Keys,
            _ => AuthMode::Open,
        };
        if let Some(auth) = tree.table("auth") {
            auth.fill("refund_cache_hits", &mut config.auth.refund_cache_hits);
        }
        let mut seen: BTreeMap<Vec<u8>, Place> = BTreeMap::new();
        for table in tree.tables("key") {
            self.unique(table, &mut seen);
            if let Some(key) = self.key(table) {
                narrowed(&key, table, config);
                config.keys.push(key);
            }
        }
        if config.auth.mode == AuthMode::Keys {
            let place = said.map_or_else(|| tree.place.clone(), |node| node.place.clone());
            let what = "`auth.mode = \"keys\"`";
            config.restrictions.insert(0, restriction(RestrictionKind::AuthKeys, place, what));
        }
        self.openness(config);
    }

    /// Open is the default only where nobody else can come in and nobody ever made a key.
    fn openness(&mut self, config: &Config) {
        let loopback = config.server.listen.ip().is_loopback();
        let tree = self.tree;
        let listen = tree.table("server").map(|server| server.place_of("listen"));
        let key = tree.tables("key").next().map(|table| table.place.clone());
        let help = "write mode = \"keys\" or mode = \"open\" under [auth]";
        if config.auth.said {
            if config.auth.mode == AuthMode::Open && !loopback {
                let place = tree.table("auth").map(|auth| auth.place_of("mode"));
                let message = "anyone who reaches the public listener may use it";
                let listen = config.server.listen;
                let mut diagnostic = Diagnostic::nowhere(Code::OpenToAll, message)
                    .label(format!("it listens on {listen}"));
                diagnostic.severity = crate::diagnostic::Severity::Warning;
                diagnostic.place = place;
                self.out.push(diagnostic);
            }
            return;
        }
        let (place, message) = if let Some(key) = key {
            (Some(key), "a key is declared, so `auth.mode` has to be said")
        } else if !loopback {
            (listen, "the listener is reachable from elsewhere, so `auth.mode` has to be said")
        } else {
            return;
        };
        let mut diagnostic = Diagnostic::nowhere(Code::AuthUnsaid, message).help(help);
        diagnostic.place = place;
        self.out.push(diagnostic);
    }

    fn unique(&mut self, table: &Table, seen: &mut BTreeMap<Vec<u8>, Place>) {
        let given = secret(table, "secret").or_else(|| secret(table, "secret_sha256"));
        let Some(given) = given else { return };
        let place =
            table.place_of(if table.get("secret").is_some() { "secret" } else { "secret_sha256" });
        if let Some(first) = seen.insert(given.expose().as_bytes().to_vec(), place.clone()) {
            self.out.push(
                Diagnostic::error(Code::Secret, place, "two keys have the same secret")
                    .related(first, "the same one"),
            );
        }
    }

    fn key(&mut self, table: &Table) -> Option<KeyConfig> {
        let secret = self.key_secret(table);
        let regions: Vec<RegionName> = self.refer_all(Referee::Region, table.list("regions"));
        let home = region(table, "region");
        if let Some(node) = table.get("region") {
            let known = self.refers(Referee::Region, node);
            let outside = home.as_ref().is_some_and(|home| !regions.contains(home));
            if known && outside && table.get("regions").is_some() {
                let message = "the key's `region` is not among its `regions`";
                self.error(Code::Conflict, node.place.clone(), message);
            }
        }
        if table.get("regions").is_some() && table.list("regions").is_empty() {
            let message = "an empty `regions` would allow nothing; leave it out to allow all";
            self.error(Code::EmptyResidency, table.place_of("regions"), message);
        }
        if table.get("models").is_some() && table.list("models").is_empty() {
            let message = "an empty `models` would allow nothing; leave it out to allow all";
            self.error(Code::WrongValue, table.place_of("models"), message);
        }
        let limits = KeyLimits {
            requests_per_minute: table.read("requests_per_minute"),
            requests_per_day: table.read("requests_per_day"),
            tokens_per_minute: table.read("tokens_per_minute"),
            tokens_per_day: table.read("tokens_per_day"),
            burst: table.read("burst"),
            concurrent: table.read("concurrent"),
        };
        if let (Some(burst), Some(rate)) = (limits.burst, limits.requests_per_minute)
            && burst > rate.saturating_mul(MINUTES_PER_DAY)
        {
            let message = "`burst` is more than the key may ask for in a whole day";
            let diagnostic = Diagnostic::error(Code::OutOfRange, table.place_of("burst"), message)
                .label(format!("at most {}", rate.saturating_mul(MINUTES_PER_DAY)));
            self.out.push(diagnostic.help("a limit per day is `requests_per_day`"));
        }
        if limits.burst.is_some() && limits.requests_per_minute.is_none() {
            let place = table.place_of("burst");
            let message = "`burst` has no effect without `requests_per_minute`";
            self.out.push(Diagnostic::warning(Code::Unused, place, message));
        }
        Some(KeyConfig {
            name: name::<KeyName>(table, "name")?,
            secret: secret?,
            tenant: name(table, "tenant"),
            models: texts(table, "models"),
            region: home,
            regions,
            priority: table.read("priority").unwrap_or(0),
            limits,
            expires: table.read("expires"),
            disabled: table.read("disabled").unwrap_or(false),
        })
    }

    fn key_secret(&mut self, table: &Table) -> Option<KeySecret> {
        let (plain, digest) = (secret(table, "secret"), secret(table, "secret_sha256"));
        let said = |key: &str| table.get(key).is_some();
        match (plain, digest) {
            (Some(_), Some(_)) => {
                let place = table.place_of("secret_sha256");
                self.error(Code::Secret, place, "a key has `secret` or `secret_sha256`, not both");
                None
            }
            (Some(plain), None) => {
                self.weak(table, &plain);
                Some(KeySecret::Plain(plain))
            }
            (None, Some(digest)) => {
                let bytes = hex32(digest.expose());
                if bytes.is_none() {
                    let place = table.place_of("secret_sha256");
                    self.out.push(
                        Diagnostic::error(Code::Secret, place, "`secret_sha256` is no SHA-256")
                            .label("expected 64 hexadecimal digits"),
                    );
                }
                bytes.map(KeySecret::Sha256)
            }
            (None, None) => {
                let key = if said("secret_sha256") { "secret_sha256" } else { "secret" };
                let message =
                    if said(key) { "the key's secret is empty" } else { "the key has no secret" };
                self.out.push(
                    Diagnostic::error(Code::Secret, table.place_of(key), message)
                        .help("give it `secret = \"${NAME}\"` or `secret_sha256`"),
                );
                None
            }
        }
    }

    fn weak(&mut self, table: &Table, plain: &Secret) {
        let place = table.place_of("secret");
        let text = plain.expose();
        if text == SAMPLE {
            let message = "this is the secret of the documentation";
            self.out.push(Diagnostic::warning(Code::SampleSecret, place, message));
        } else if text.len() < SECRET_MIN_BYTES {
            let message = format!("the secret is shorter than {SECRET_MIN_BYTES} bytes");
            self.out.push(Diagnostic::warning(Code::SampleSecret, place, message));
        } else if text.contains(|c: char| !c.is_ascii_graphic()) {
            let message = "the secret holds a character that no Authorization header can carry";
            self.out.push(Diagnostic::error(Code::Secret, place, message));
        }
    }
}

/// Notes what a key restricts.
fn narrowed(key: &KeyConfig, table: &Table, config: &mut Config) {
    let mut note =
        |what, place, asked: &str| config.restrictions.push(restriction(what, place, asked));
    // With the key itself comes that it may be disabled, or expire.
    note(RestrictionKind::KeyTable, table.place.clone(), "a [[key]]");
    if !key.models.is_empty() {
        note(RestrictionKind::KeyModels, table.place_of("models"), "a key's `models`");
    }
    if !key.regions.is_empty() {
        note(RestrictionKind::KeyRegions, table.place_of("regions"), "a key's `regions`");
    }
    if key.limits != KeyLimits::default() {
        note(RestrictionKind::KeyLimits, table.place.clone(), "a key's rate limits");
    }
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
