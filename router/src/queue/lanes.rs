//! Those of one priority: a lane for each tenant, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Ticket;
use crate::ids::TenantName;

type Tenant = Option<TenantName>;

/// The tenants that wait with one priority.
#[derive(Debug, Default)]
pub(super) struct Class {
    last_turn: u64,
    lanes: BTreeMap<Tenant, Lane>,
    /// Who has been served longest ago comes first.
    turns: BTreeMap<u64, Tenant>,
}

/// One tenant's requests, never none.
#[derive(Debug, Default)]
struct Lane {
    turn: u64,
    len: usize,
    /// By kind, oldest first; none is empty.
    kinds: BTreeMap<u64, BTreeSet<Ticket>>,
}

impl Lane {
    fn oldest(&self, declined: &HashSet<u64>) -> Option<Ticket> {
        let hopeful = self.kinds.iter().filter(|(kind, _)| !declined.contains(kind));
        hopeful.filter_map(|(_, tickets)| tickets.first()).min().copied()
    }

    fn newest(&self) -> Option<Ticket> {
        self.kinds.values().filter_map(BTreeSet::last).max().copied()
    }
}

impl Class {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) fn insert(&mut self, tenant: &Tenant, kind: u64, ticket: Ticket) {
        if !self.lanes.contains_key(tenant) {
            self.last_turn += 1;
            self.turns.insert(self.last_turn, tenant.clone());
            let lane = Lane { turn: self.last_turn, ..Lane::default() };
            self.lanes.insert(tenant.clone(), lane);
        }
        if let Some(lane) = self.lanes.get_mut(tenant) {
            lane.kinds.entry(kind).or_default().insert(ticket);
            lane.len += 1;
        }
    }

    pub(super) fn remove(&mut self, tenant: &Tenant, kind: u64, ticket: Ticket) {
        let Some(lane) = self.lanes.get_mut(tenant) else { return };
        let Some(tickets) = lane.kinds.get_mut(&kind) else { return };
        lane.len -= usize::from(tickets.remove(&ticket));
        if tickets.is_empty() {
            lane.kinds.remove(&kind);
        }
        if lane.len == 0 {
            self.turns.remove(&lane.turn);
            self.lanes.remove(tenant);
        }
    }

    pub(super) fn refile(&mut self, tenant: &Tenant, from: u64, to: u64, ticket: Ticket) {
        let Some(lane) = self.lanes.get_mut(tenant) else { return };
        if let Some(tickets) = lane.kinds.get_mut(&from) {
            tickets.remove(&ticket);
            if tickets.is_empty() {
                lane.kinds.remove(&from);
            }
        }
        lane.kinds.entry(to).or_default().insert(ticket);
    }

    /// The tenant goes to the end of the row.
    pub(super) fn took_turn(&mut self, tenant: &Tenant) {
        let Some(lane) = self.lanes.get_mut(tenant) else { return };
        self.turns.remove(&lane.turn);
        self.last_turn += 1;
        lane.turn = self.last_turn;
        self.turns.insert(lane.turn, tenant.clone());
    }

    /// The first that may hope, of the tenant whose turn it is among those that have one.
    pub(super) fn next(&self, declined: &HashSet<u64>) -> Option<Ticket> {
        self.turns.values().find_map(|tenant| self.lanes.get(tenant)?.oldest(declined))
    }

    /// The first that may hope, whoever's turn it is.
    pub(super) fn oldest(&self, declined: &HashSet<u64>) -> Option<Ticket> {
        self.lanes.values().filter_map(|lane| lane.oldest(declined)).min()
    }

    /// How many a tenant has here.
    pub(super) fn len_of(&self, tenant: &Tenant) -> usize {
        self.lanes.get(tenant).map_or(0, |lane| lane.len)
    }

    /// How many the tenant with the most has, and its newest.
    pub(super) fn longest(&self) -> Option<(usize, Ticket)> {
        let longest = self.lanes.values().max_by_key(|lane| lane.len)?;
        Some((longest.len, longest.newest()?))
    }
}
