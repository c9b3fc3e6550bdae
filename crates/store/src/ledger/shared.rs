//! Quotas over several projects while a batch is written, and what is held of them. Refuses to know projects' own quotas.

use super::rows::Placement;
use crate::{Error, quotas};
use deadpool_postgres::GenericClient;
use domain::{
    id::{GroupId, ProjectId, UserId},
    quota::{Account, Excess, Quota, Usage},
};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Of groups and persons with limits, for which a batch gives something. Nobody else gives anything of these meanwhile.
#[derive(Default)]
pub(super) struct Shared {
    accounts: BTreeMap<Account, (Quota, Usage)>,
    groups: BTreeMap<ProjectId, GroupId>,
}

impl Shared {
    /// Locks the groups, then the persons. After the projects.
    pub(super) async fn lock(
        db: &impl GenericClient,
        given: impl Iterator<Item = &Placement> + Clone,
    ) -> Result<Self, Error> {
        let projects: BTreeSet<Uuid> = given.clone().map(|placement| placement.project.0).collect();
        let persons: BTreeSet<Uuid> = given.filter_map(|placement| Some(placement.person?.0)).collect();
        let (projects, persons): (Vec<Uuid>, Vec<Uuid>) = (Vec::from_iter(projects), Vec::from_iter(persons));
        let quotas = quotas::lock(db, &projects, &persons).await?;
        let accounts = quotas.into_iter().map(|(account, quota)| (account, (quota, Usage::default()))).collect();
        Ok(Self { accounts, groups: BTreeMap::new() })
    }

    /// Counts what is held by now, after what a batch gives back is gone. Of the projects that it has locked, `usage` is what
    /// they hold: their rows are written later.
    pub(super) async fn count(
        &mut self,
        db: &impl GenericClient,
        usage: &BTreeMap<ProjectId, Usage>,
    ) -> Result<(), Error> {
        let (mut groups, mut persons): (Vec<Uuid>, Vec<UserId>) = (Vec::new(), Vec::new());
        for account in self.accounts.keys() {
            match account {
                Account::Group(group) => groups.push(group.0),
                Account::Person(person) => persons.push(*person),
                Account::Project(_) => {}
            }
        }
        if !groups.is_empty() {
            for part in quotas::parts(db, &groups).await? {
                self.groups.insert(part.project, part.group);
                let mut held = usage.get(&part.project).cloned().unwrap_or(part.used);
                held.storage_bytes = held.storage_bytes.saturating_add(part.volume_bytes);
                self.change(Account::Group(part.group), |used| used.add(&held));
            }
        }
        if !persons.is_empty() {
            for (person, held) in quotas::held_by_persons(db, &persons).await? {
                self.change(Account::Person(person), |used| used.add(&held));
            }
        }
        Ok(())
    }

    /// Who would hold too much with this: the group first.
    pub(super) fn excess(&self, placement: &Placement, more: &Usage) -> Option<(Account, Excess)> {
        self.accounts_of(placement).find_map(|account| {
            let (quota, used) = self.accounts.get(&account)?;
            Some((account, quota.excess(used, more)?))
        })
    }

    /// Counts what is given.
    pub(super) fn add(&mut self, placement: &Placement) {
        let more = placement.usage();
        self.accounts_of(placement).for_each(|account| self.change(account, |used| used.add(&more)));
    }

    /// Takes back what [`Self::add`] counted.
    pub(super) fn remove(&mut self, placement: &Placement) {
        let less = placement.usage();
        self.accounts_of(placement).for_each(|account| self.change(account, |used| used.remove(&less)));
    }

    fn change(&mut self, account: Account, change: impl FnOnce(&mut Usage)) {
        if let Some((_, used)) = self.accounts.get_mut(&account) {
            change(used);
        }
    }

    fn accounts_of(&self, placement: &Placement) -> impl Iterator<Item = Account> + use<> {
        let group = self.groups.get(&placement.project).copied().map(Account::Group);
        group.into_iter().chain(placement.person.map(Account::Person))
    }
}
