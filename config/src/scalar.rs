//! Durations, sizes, moments, addresses and URLs written as text.

use std::net::SocketAddr;
use std::time::Duration;

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// `"250ms"`, `"30s"`, `"1h30m"`: whole numbers with a unit each, one or several.
///
/// # Errors
/// What is wrong, in a few words.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let mut total: u64 = 0;
    let mut rest = text;
    if rest.is_empty() {
        return Err("it is empty");
    }
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let factor =
            DURATION_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let factor = factor.ok_or(if unit.is_empty() {
            "the unit is missing: ms, s, m, h or d"
        } else {
            "the unit is one of ms, s, m, h, d"
        })?;
        total = number
            .checked_mul(factor)
            .and_then(|ms| total.checked_add(ms))
            .ok_or("it is too large")?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// `"512KiB"`, `"64MiB"`, `"1GB"`.
///
/// # Errors
/// What is wrong, in a few words.
pub(crate) fn size(text: &str) -> Result<u64, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let (number, unit) = leading_number(text)?;
    let unit = unit.trim_start();
    let factor = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let factor = factor.ok_or(if unit.is_empty() {
        "the unit is missing: B, KiB, MiB or GiB"
    } else {
        "the unit is one of B, KiB, MiB, GiB, TiB, KB, MB, GB, TB"
    })?;
    number.checked_mul(factor).ok_or("it is too large")
}

fn leading_number(text: &str) -> Result<(u64, &str), &'static str> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if digits == 0 {
        return Err("it does not start with a whole number");
    }
    let (number, rest) = text.split_at(digits);
    if rest.starts_with('.') {
        return Err("fractions are not allowed; use a smaller unit");
    }
    number.parse().map(|number| (number, rest)).map_err(|_| "it is too large")
}

/// A duration as the file would say it.
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let unit = DURATION_UNITS.iter().rev().find(|(_, factor)| ms.is_multiple_of(*factor));
    match unit {
        Some((unit, factor)) if ms > 0 => format!("{}{unit}", ms / factor),
        _ => "0s".to_owned(),
    }
}

/// A size as the file would say it.
pub(crate) fn show_size(bytes: u64) -> String {
    let binary = SIZE_UNITS.iter().take(5).rev().find(|(_, factor)| bytes.is_multiple_of(*factor));
    match binary {
        Some((unit, factor)) if bytes > 0 => format!("{}{unit}", bytes / factor),
        _ => "0B".to_owned(),
    }
}

/// `"127.0.0.1:8080"`, `"[::1]:8080"`, `":8080"` (every address), `"localhost:8080"`.
///
/// # Errors
/// What is wrong, in a few words.
pub(crate) fn socket(text: &str) -> Result<SocketAddr, &'static str> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    let port: u16 = port.parse().map_err(|_| "the port is a number from 0 to 65535")?;
    match host {
        "" | "*" => Ok(SocketAddr::from(([0, 0, 0, 0], port))),
        "localhost" => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        _ => Err("the address is an IP address; IPv6 stands in brackets"),
    }
}

/// How paths end that name an operation of a server, not the server.
const ENDPOINTS: [&str; 7] = [
    "/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/api/chat",
    "/api/generate",
    "/api/tags",
];

/// The normal form of a backend's base URL: no trailing slash, no trailing `/v1`.
///
/// # Errors
/// What is wrong, in a few words that hold nothing of the URL.
pub fn base_url(text: &str) -> Result<String, &'static str> {
    let (scheme, rest) =
        text.split_once("://").ok_or("it has to start with http:// or https://")?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return Err("only http:// and https:// are possible");
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
        return Err("it holds a character that a URL cannot have");
    }
    if rest.contains(['?', '#']) {
        return Err("a base URL has no query and no fragment");
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if authority.contains('@') {
        return Err("credentials do not belong into the URL; use api_key");
    }
    let host = host_and_port(authority)?;
    let mut path = path.trim_end_matches('/');
    if ENDPOINTS.iter().any(|endpoint| path.ends_with(endpoint)) {
        return Err("it names one operation; the base URL is what stands before /v1 or /api");
    }
    path = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/');
    if path.contains("//") || path.contains('\\') || path.split('/').any(|part| part == "..") {
        return Err("its path cannot hold empty or relative parts");
    }
    Ok(format!("{scheme}://{host}{path}"))
}

fn host_and_port(authority: &str) -> Result<String, &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (address, after) = inner.split_once(']').ok_or("the bracket is not closed")?;
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| "the address in brackets is no IPv6")?;
            (&authority[..address.len() + 2], after)
        }
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
    if !host.chars().all(plain) {
        return Err("the host holds a character that it cannot have");
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => {}
        Some(port) if port.parse::<u16>().is_ok_and(|port| port > 0) => {}
        _ => return Err("the port is a number from 1 to 65535"),
    }
    Ok(format!("{}{port}", host.to_ascii_lowercase()))
}

/// Unix seconds of an RFC 3339 moment.
///
/// # Errors
/// What is wrong, in a few words.
pub(crate) fn moment(text: &str) -> Result<u64, &'static str> {
    let moment: toml::value::Datetime = text.parse().map_err(|_| "it is no RFC 3339 moment")?;
    moment_of(&moment)
}

/// Unix seconds of a TOML date-time.
///
/// # Errors
/// What is wrong, in a few words.
pub(crate) fn moment_of(moment: &toml::value::Datetime) -> Result<u64, &'static str> {
    let (Some(date), Some(time)) = (moment.date, moment.time) else {
        return Err("it needs a date and a time");
    };
    let offset = match moment.offset.ok_or("it needs a zone: Z or +01:00")? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let of_day = i64::from(time.hour) * 3600
        + i64::from(time.minute) * 60
        + i64::from(time.second.unwrap_or_default());
    u64::try_from(days * 86_400 + of_day - offset * 60).map_err(|_| "it lies before 1970")
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A moment as RFC 3339 in UTC.
pub(crate) fn show_moment(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // The inverse of `days_since_1970`, from the same source.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_sizes_need_units_and_have_bounds() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in
            ["", "5", "s", "-5s", "1.5s", "5 s", "5y", "99999999999999999999s", "9999999999999999d"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1 GB"), Ok(1_000_000_000));
        for bad in ["", "64", "MiB", "64mib", "-1B", "1.5GiB", "99999999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base_urls_have_one_form() {
        for (text, normal) in [
            ("http://a:8000", "http://a:8000"),
            ("HTTP://A:8000/", "http://a:8000"),
            ("https://a/v1", "https://a"),
            ("https://a/v1/", "https://a"),
            ("https://a/llm/v1", "https://a/llm"),
            ("http://[::1]:8000/v1", "http://[::1]:8000"),
            ("http://a/v12", "http://a/v12"),
            ("http://a/api/v1", "http://a/api"),
            ("http://a/models/v1", "http://a/models"),
        ] {
            assert_eq!(base_url(text).as_deref(), Ok(normal));
        }
        for bad in [
            "",
            "a:8000",
            "http://",
            "http:///v1",
            "ftp://a",
            "http://u:p@a",
            "http://a?x",
            "http://a#x",
            "http://a:0",
            "http://a:99999",
            "http://a:",
            "http://a b",
            "http://a/../b",
            "http://[::1",
            "http://[x]",
            "http://a//b",
            "http://a/v1/chat/completions",
            "http://a/v1/models/",
            "http://a/api/chat",
            "http://ä",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listeners_are_addresses_with_ports() {
        for (text, address) in
            [(":80", "0.0.0.0:80"), ("localhost:80", "127.0.0.1:80"), ("[::1]:80", "[::1]:80")]
        {
            assert_eq!(socket(text).map(|address| address.to_string()).as_deref(), Ok(address));
        }
        for bad in ["", "80", "a:80", "127.0.0.1", "127.0.0.1:65536", "::1:80"] {
            assert!(socket(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ms in 0..u64::MAX / 2, bytes in any::<u64>(), at in 0..253_402_300_799u64) {
            prop_assert_eq!(duration(&show_duration(Duration::from_millis(ms))), Ok(Duration::from_millis(ms)));
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            prop_assert_eq!(moment(&show_moment(at)), Ok(at));
        }

        #[test]
        fn a_base_url_is_its_own_normal_form(text in "https?://[a-z0-9.]{1,9}(:[0-9]{1,5})?(/[a-z0-9/]{0,12})?") {
            if let Ok(url) = base_url(&text) {
                let again = base_url(&url);
                // A path of /v1/v1 loses one part each time, and means so.
                if !url.ends_with("/v1") {
                    prop_assert_eq!(again, Ok(url));
                }
            }
        }
    }
}
