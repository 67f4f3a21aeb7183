//! A process that dies without warning: what it acknowledged is there.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use admin::store::{AuditCheck, Role, Store, StoreError};

use crate::{Place, child};

#[test]
fn what_was_acknowledged_outlives_a_killed_process() {
    let place = Place::new();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut promised = BTreeSet::new();
    for round in 0..8 {
        let task = format!("write round-{round}");
        let mut process = child::of(&task, &place.path()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let until = rng.usize(1..300);
        let acks = lines.map_while(Result::ok).filter_map(|line| child::acknowledged(&line));
        let mut killed = false;
        // What it still acknowledges while the signal is on its way counts too.
        for (at, id) in acks.enumerate() {
            promised.insert(id);
            if at + 1 >= until && !killed {
                process.kill().unwrap();
                killed = true;
            }
        }
        process.wait().unwrap();
        assert!(killed, "round {round}");
        // Whoever comes first finds it whole, also one that only follows.
        let role = if round % 2 == 0 { Role::Follower } else { Role::Writer };
        let store = Store::open(&place.path(), role).unwrap();
        let (kept, check) = store
            .read_blocking(|tx| {
                tx.check_integrity()?;
                let ids = tx.objects(None)?.into_iter().map(|object| object.id);
                Ok::<_, StoreError>((ids.collect::<BTreeSet<_>>(), tx.verify_audit()?))
            })
            .unwrap();
        let lost: Vec<_> = promised.difference(&kept).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
        // Each transaction is there whole or not at all; one per round may be done and not acknowledged.
        assert!(kept.len() <= promised.len() + round + 1);
        assert!(
            matches!(check, AuditCheck::Whole { entries, .. } if entries == kept.len() as u64),
            "{check:?}"
        );
    }
}
