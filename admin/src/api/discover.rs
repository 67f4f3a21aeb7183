//! `POST /admin/discover`: looks for inference servers at addresses that are given.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::response::Response;
use router::spec::BackendSpec;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use utoipa::ToSchema;

use crate::api::audited::{Act, note};
use crate::api::call::Call;
use crate::api::extract::Json;
use crate::api::jobs::{accepted, begins};
use crate::api::operation::Operation;
use crate::api::problem::{Flaw, Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::api::world::World;
use crate::jobs::{Outcome, Progress};
use crate::outbound::Target;
use crate::probing::{self, Report};
use crate::registry::Change;
use crate::role::Role;
use crate::store::ObjectKind;

/// Most addresses of one search.
const ADDRESSES_MAX: usize = 256;
/// Most hosts of a subnet: that of a /22.
const HOSTS_MAX: u32 = 1024;
/// Most ports that are tried at each host of a subnet.
const PORTS_MAX: usize = 8;
/// Most servers that are asked at once.
const AT_ONCE: usize = 16;
/// Where inference servers listen: vLLM and TEI, Ollama, llama-server.
const PORTS: [u16; 3] = [8000, 11434, 8080];

/// Where to look.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Search {
    /// `host:port` or base URLs, at most 256.
    #[schema(example = json!(["10.0.0.4:8000", "10.0.0.5:11434"]), max_items = 256)]
    addresses: Vec<String>,
    /// An IPv4 subnet of at most 1,024 addresses; needs `allow_subnet`.
    #[schema(
        example = "10.0.0.0/24",
        pattern = r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])/(2[2-9]|3[0-2])$"
    )]
    cidr: Option<String>,
    /// The ports to try at each address of the subnet, at most 8; 8000, 11434 and 8080 when nothing is said.
    #[schema(max_items = 8)]
    ports: Vec<u16>,
    /// That many machines will be asked is meant so.
    allow_subnet: bool,
    /// What is found becomes backends at once.
    register: bool,
    /// The region of these backends; `default_region` when nothing is said.
    region: Option<String>,
}

fn flaw(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::invalid(vec![Flaw {
        pointer: pointer.to_owned(),
        code: "invalid_value".to_owned(),
        detail: detail.into(),
    }])
}

impl Search {
    /// Every base URL to be asked, once each, and the addresses that are none.
    fn targets(&self) -> Result<(Vec<Target>, Vec<Report>), Problem> {
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(flaw("/addresses", format!("at most {ADDRESSES_MAX}")));
        }
        let mut targets = Vec::new();
        let mut unusable = Vec::new();
        for address in &self.addresses {
            let url =
                if address.contains("://") { address.clone() } else { format!("http://{address}") };
            match Target::parse(&url) {
                Ok(target) => targets.push(target),
                // It may hold a credential, so it is not said which one it was.
                Err(error) => unusable.push(Report::unasked("", &error)),
            }
        }
        if let Some(cidr) = &self.cidr {
            if !self.allow_subnet {
                let words = "every address of the subnet will be asked; say allow_subnet = true";
                return Err(Problem::new(Kind::Conflict, words));
            }
            let ports = if self.ports.is_empty() { &PORTS[..] } else { &self.ports[..] };
            if ports.len() > PORTS_MAX {
                return Err(flaw("/ports", format!("at most {PORTS_MAX}")));
            }
            for host in hosts(cidr).map_err(|detail| flaw("/cidr", detail))? {
                for port in ports {
                    targets.extend(Target::parse(&format!("http://{host}:{port}")));
                }
            }
        }
        let mut seen = BTreeSet::new();
        targets.retain(|target| seen.insert(target.url.clone()));
        Ok((targets, unusable))
    }
}

/// The hosts of a subnet, without its network and broadcast addresses where it has them.
fn hosts(cidr: &str) -> Result<Vec<IpAddr>, &'static str> {
    let (address, length) = cidr.split_once('/').ok_or("of the form 10.0.0.0/24")?;
    let address: Ipv4Addr = address.parse().map_err(|_| "the address is no IPv4")?;
    let length: u32 = length.parse().map_err(|_| "the length is a number from 22 to 32")?;
    let size = 32_u32.checked_sub(length).and_then(|bits| 1_u32.checked_shl(bits));
    let size = size.filter(|size| *size <= HOSTS_MAX).ok_or("at most a /22")?;
    let first = u32::from(address) & !(size - 1);
    let edge = u32::from(size > 2);
    let all = (edge..size - edge).map(|host| IpAddr::V4(Ipv4Addr::from(first + host)));
    Ok(all.collect())
}

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::post(
        "/admin/discover",
        Role::Admin,
        begins(
            Operation::new("discover", "operations", "Look for inference servers")
                .about(
                    "Asks each address what it is, at most 16 at once, without spending a token. Link-local and metadata \
                     addresses are refused. The job's `detail` lists what was found; it becomes backends only with \
                     `register`.",
                )
                .takes::<Search>(json!({"addresses": ["10.0.0.4:8000", "10.0.0.5:11434"]}))
                .fails(&[Kind::Conflict]),
            "discover",
        ),
        discover,
    )]
}

async fn discover(call: Call, Json(search): Json<Search>) -> Result<Response, Problem> {
    let (targets, unusable) = search.targets()?;
    let asked = json!({"addresses": targets.len(), "register": search.register});
    let change = call.change(None, &World::default());
    let (total, work) = (targets.len() as u64, call.api.clone());
    let job = call.api.engines().jobs.start(
        "discover",
        &call.caller.name,
        total,
        |progress| async move { look(&work, &progress, targets, unusable, &search, change).await },
    );
    let job = job.await?;
    note(&call, Act::new("discover", "network").with(asked)).await;
    Ok(accepted(job))
}

/// Asks all of them; those that do not answer are only counted.
async fn look(
    api: &Api,
    progress: &Progress,
    targets: Vec<Target>,
    unusable: Vec<Report>,
    search: &Search,
    change: Change,
) -> Outcome {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for target in targets {
        let (client, places) = (api.engines().outbound.clone(), Arc::clone(&places));
        asked.spawn(async move {
            // The semaphore is never closed.
            let _place = places.acquire().await;
            probing::test(&client, target, None, None).await
        });
    }
    let mut found: Vec<Value> = unusable.iter().map(|report| shown(report, None)).collect();
    let mut silent = 0_u64;
    while let Some(report) = asked.join_next().await {
        progress.step();
        match report {
            Ok(report) if report.kind.is_some() || report.health.is_there() => {
                let registered = match search.register {
                    true => Some(register(api, &report, search, change.clone()).await),
                    false => None,
                };
                found.push(shown(&report, registered));
                progress.tell(json!({ "found": found, "silent": silent }));
            }
            _ => silent += 1,
        }
    }
    found.sort_by_key(|one| one["url"].as_str().unwrap_or_default().to_owned());
    Ok(json!({ "found": found, "silent": silent }))
}

fn shown(report: &Report, registered: Option<Result<String, String>>) -> Value {
    let models: Vec<&str> = report.models.iter().take(100).map(|model| model.id.as_str()).collect();
    let mut one = json!({
        "url": report.url,
        "kind": report.kind,
        "health": report.health,
        "version": report.version,
        "models": models,
        "error": report.error,
    });
    match registered {
        Some(Ok(name)) => one["registered"] = json!(name),
        Some(Err(reason)) => one["not_registered"] = json!(reason),
        None => {}
    }
    one
}

/// Makes a backend of what was found; one that is registered under its URL stays as it is.
async fn register(
    api: &Api,
    report: &Report,
    search: &Search,
    change: Change,
) -> Result<String, String> {
    let kind = report.kind.ok_or("what it is could not be found out")?;
    let desired = api.registry().desired();
    let known = |spec: &&BackendSpec| spec.url == report.url;
    if let Some(spec) = desired.spec.backends.iter().find(known) {
        return Err(format!("it is the backend {:?}", spec.name.as_str()));
    }
    let mut body = Map::new();
    let name = name_of(kind, &report.url);
    body.insert("name".to_owned(), json!(name));
    body.insert("kind".to_owned(), json!(kind));
    body.insert("url".to_owned(), json!(report.url));
    if let Some(region) = &search.region {
        body.insert("region".to_owned(), json!(region));
    }
    let made = api.registry().create(ObjectKind::Backend, body, change).await;
    made.map(|_| name).map_err(|error| error.to_string())
}

/// `ollama-10-0-0-5-11434`.
fn name_of(kind: &str, url: &str) -> String {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    let words: Vec<&str> =
        place.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let mut name = format!("{kind}-{}", words.join("-"));
    name.truncate(60);
    name
}

#[cfg(test)]
mod tests {
    use router::spec::Kind as ServerKind;

    use super::*;

    #[test]
    fn subnets_are_bounded() {
        assert_eq!(hosts("10.0.0.7/24").unwrap().len(), 254);
        assert_eq!(hosts("10.0.0.7/24").unwrap()[0], "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(hosts("10.0.0.0/22").unwrap().len(), 1022);
        assert_eq!(hosts("10.0.0.7/32").unwrap(), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(hosts("10.0.0.6/31").unwrap().len(), 2);
        assert_eq!(hosts("255.255.255.255/32").unwrap().len(), 1);
        for bad in ["10.0.0.0/21", "10.0.0.0/0", "10.0.0.0/33", "10.0.0.0", "fd00::/120", "x/24"] {
            assert!(hosts(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_place_is_asked_once_and_a_subnet_only_on_purpose() {
        let search = |text: &str| serde_json::from_str::<Search>(text).unwrap();
        let two = search(r#"{"addresses":["a:80","http://a","b:9/v1"]}"#);
        // The port that is a scheme's own is still another text; what is asked twice is harmless.
        assert!(two.targets().unwrap().0.len() <= 3);
        assert!(search(r#"{"cidr":"10.0.0.0/30"}"#).targets().is_err());
        let subnet = search(r#"{"cidr":"10.0.0.0/30","allow_subnet":true,"ports":[1,2]}"#);
        assert_eq!(subnet.targets().unwrap().0.len(), 4);
        let (targets, unusable) = search(r#"{"addresses":["u:p@a:80"]}"#).targets().unwrap();
        assert_eq!((targets.len(), unusable.len()), (0, 1));
        assert!(!format!("{unusable:?}").contains("u:p"));
    }

    #[test]
    fn names_come_from_places() {
        assert_eq!(name_of("ollama", "http://10.0.0.5:11434"), "ollama-10-0-0-5-11434");
        assert_eq!(name_of("vllm", "http://[::1]:8000/a"), "vllm-1-8000-a");
        let kinds = ServerKind::ALL.map(ServerKind::as_str);
        for kind in kinds {
            assert!(router::BackendName::try_from(name_of(kind, "http://h:1").as_str()).is_ok());
        }
    }
}
