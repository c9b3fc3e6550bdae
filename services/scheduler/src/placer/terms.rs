//! What people set, read again each second, and what of it binds which life.

use super::{Ended, Placer, planning::waits, turn::Turn};
use domain::{
    device::{DeviceModel, WHOLE_MILLI},
    id::{PlanId, ProjectId, QueueId, UserId},
    quota::{Account, Usage},
    runtime::{
        life::{Bounds, Event, Life, Notice, Stage},
        rules::{self, Denial, Plan, Policy, listed, opens_again},
    },
    window::{self, Access},
};
use jiff::SignedDuration;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use store::{
    placement_terms::{self, Terms},
    runtime_specs,
};
use uuid::Uuid;

/// Between two looks at what people set.
const REFRESH: Duration = Duration::from_secs(1);

/// A life that waits for so long was begun by terms that have been read since.
const SETTLED: SignedDuration = SignedDuration::from_secs(2);

/// By what a life may run.
pub(super) struct Admitted {
    pub(super) plan: Option<PlanId>,
    pub(super) access: Access,
    /// Models, as the plan names them; empty is any.
    pub(super) models: Vec<String>,
    lifetime_max_s: Option<u32>,
}

impl Placer {
    /// Reads the terms, when it is time to.
    pub(super) async fn read_terms(&mut self, turn: &mut Turn) -> Result<(), Ended> {
        if self.terms_read_at.is_some_and(|at| at.elapsed() < REFRESH) {
            return Ok(());
        }
        let (projects, persons) = (self.projects_here(), self.persons_here());
        match placement_terms::read(&self.parts.store, &self.pool, &projects, &persons).await {
            Ok(mut terms) => {
                self.elsewhere = self.held_elsewhere(&mut terms);
                let persons = persons.into_iter().map(Account::Person);
                self.terms_of = projects.into_iter().map(Account::Project).chain(persons).collect();
                if terms != self.terms {
                    self.terms = terms;
                    self.planning.terms_have_changed();
                }
                self.planning.terms_are_fresh();
                self.terms_read_at = Some(Instant::now());
                // Windows open and close without an edit.
                self.bind_all(turn);
                self.read_offers().await;
                self.refuse_forbidden(turn);
                Ok(())
            }
            Err(error) => {
                let pool = &*self.pool;
                tracing::warn!(
                    pool,
                    error = runtime::exit::chain(&error),
                    "failed to read what people set; the old terms hold"
                );
                // Without any, nobody is placed.
                self.terms_read_at = self.terms_read_at.map(|_| Instant::now());
                Ok(())
            }
        }
    }

    /// The terms as they are set now, of these projects and persons too, and what is held elsewhere; `None` where they cannot
    /// be read.
    pub(super) async fn terms_now(
        &self,
        further: impl Iterator<Item = ProjectId>,
        starters: impl Iterator<Item = UserId>,
    ) -> Option<(Terms, BTreeMap<Account, Usage>)> {
        let mut projects = self.projects_here();
        projects.extend(further);
        projects.sort_unstable();
        projects.dedup();
        let persons: BTreeSet<UserId> = self.persons_here().into_iter().chain(starters).collect();
        let persons = Vec::from_iter(persons);
        let mut terms = placement_terms::read(&self.parts.store, &self.pool, &projects, &persons).await.ok()?;
        let elsewhere = self.held_elsewhere(&mut terms);
        Some((terms, elsewhere))
    }

    /// Those who have something here, or want it.
    fn projects_here(&self) -> Vec<ProjectId> {
        let mut projects = self.lives.projects();
        projects.extend(self.blocks.projects());
        projects.sort_unstable();
        projects.dedup();
        projects
    }

    /// Those who have started something here.
    fn persons_here(&self) -> Vec<UserId> {
        let persons: BTreeSet<UserId> = self.lives.iter().filter_map(|stored| stored.life.requested_by).collect();
        Vec::from_iter(persons)
    }

    /// What projects, groups and persons hold in other pools. It is taken out of the terms, which are compared with the former
    /// ones.
    fn held_elsewhere(&self, terms: &mut Terms) -> BTreeMap<Account, Usage> {
        let here = self.held_here(&terms.shared.owners);
        let projects = terms.projects.iter_mut().map(|(id, limits)| (Account::Project(*id), &mut limits.used));
        let shared = terms.shared.quotas.iter_mut().map(|(account, (_, used))| (*account, used));
        let of = |(account, used): (Account, &mut Usage)| {
            let mut used = std::mem::take(used);
            used.remove(here.get(&account).unwrap_or(&Usage::default()));
            (account, used)
        };
        projects.chain(shared).map(of).collect()
    }

    /// Says to every life what binds it by now.
    pub(super) fn bind_all(&mut self, turn: &mut Turn) {
        for holder in self.lives.holders() {
            let Some(stored) = self.lives.get(holder) else { continue };
            let (plan, bounds) = self.binds(&stored.life);
            let is_bound_anew = stored.life.bounds != Some(bounds);
            if stored.plan != plan
                && let Some(stored) = self.lives.get_mut(holder)
            {
                stored.plan = plan;
                turn.change(holder);
            }
            if is_bound_anew {
                self.happen(holder, Event::Bound(bounds), turn);
            }
        }
    }

    /// By which plan a life runs, and what binds it besides its spec.
    pub(super) fn binds(&self, life: &Life) -> (Option<PlanId>, Bounds) {
        let admitted = self.admitted(life);
        let policy = self.terms.projects.get(&life.project).map(|limits| &limits.policy);
        let runs = matches!(life.stage, Stage::Starting(_) | Stage::Running);
        let lifetimes = [admitted.lifetime_max_s, policy.and_then(|policy| policy.lifetime_max_s)];
        let bounds = Bounds {
            closes_at: match admitted.access {
                Access::Until { closes_at, .. } => Some(closes_at.timestamp()),
                // It has closed between two looks; or the plan was taken away, which stops nobody by itself.
                Access::Closed { .. } if runs && admitted.plan.is_some() => {
                    Some(life.bounds.and_then(|bounds| bounds.closes_at).unwrap_or_else(|| self.now()))
                }
                Access::Closed { .. } | Access::Always => None,
            },
            over_quota_until: self.terms.over_quota.get(&life.holder).copied(),
            lifetime_max_s: lifetimes.into_iter().flatten().min(),
            idle_timeout_max_s: policy.and_then(|policy| policy.idle_timeout_max_s),
        };
        (admitted.plan, bounds)
    }

    /// What its project, its plan or the fleet does not let it be any more: until that is allowed again, it gets no place.
    pub(super) fn forbidden(&self, life: &Life) -> Option<Denial> {
        let nothing_set = Policy::default();
        let policy = self.terms.projects.get(&life.project).map_or(&nothing_set, |limits| &limits.policy);
        let by_policy = policy.permits(&life.spec).err();
        by_policy.or_else(|| self.unplanned(life)).or_else(|| rules::root_share(&life.spec, &self.offers).err())
    }

    /// Why no plan opens its queue to it.
    fn unplanned(&self, life: &Life) -> Option<Denial> {
        let queue = self.terms.queues.iter().find(|queue| queue.id == life.queue)?;
        if life.queue == QueueId(Uuid::nil()) {
            return None;
        }
        let plans = self.terms.plans.get(&(life.project, life.queue)).map(Vec::as_slice).unwrap_or_default();
        let mut denials = plans.iter().map(|plan| plan.check(&life.spec).err());
        match denials.next() {
            None => Some(rules::not_bound(&queue.name)),
            Some(first) => denials.try_fold(first?, |first, denial| denial.map(|_| first)),
        }
    }

    /// What the fleet is divided into, while somebody waits to whom it matters what keeps others within their shares.
    async fn read_offers(&mut self) {
        let matters = |life: &Life| waits(life) && life.spec.root && life.spec.ask.gpu_milli < WHOLE_MILLI;
        if !self.lives.iter().any(|stored| matters(&stored.life)) {
            return self.offers.clear();
        }
        let read = async {
            let db = self.parts.store.client().await?;
            runtime_specs::offers(&db, &self.pool).await
        };
        match read.await {
            Ok(offers) => self.offers = offers,
            Err(error) => {
                tracing::warn!(pool = &*self.pool, error = runtime::exit::chain(&error), "failed to read devices")
            }
        }
    }

    /// Tells those who wait why they get no place; one that is kept is given up.
    fn refuse_forbidden(&mut self, turn: &mut Turn) {
        let waiting = self.lives.iter().map(|stored| &stored.life).filter(|life| waits(life));
        let refused: Vec<_> = waiting.filter_map(|life| Some((life.holder, self.forbidden(life)?))).collect();
        for (holder, denial) in refused {
            if self.placements.contains_key(&holder) {
                self.happen(holder, Event::Denominated, turn);
                // The others of its gang hear of it.
                self.planning.denominated.push(holder);
            }
            let Denial { code, sentence: message, remedy: hint, .. } = denial;
            let notice = Notice { code: code.as_str().to_owned(), message, hint, ..Notice::default() };
            self.happen(holder, Event::Waits(notice), turn);
        }
    }

    /// Of the plans that open its queue, the one that lets it run longest; the default queue needs none.
    pub(super) fn admitted(&self, life: &Life) -> Admitted {
        let plans = self.terms.plans.get(&(life.project, life.queue)).map(Vec::as_slice).unwrap_or_default();
        let now = self.now();
        let allowing = plans.iter().filter(|plan| plan.check(&life.spec).is_ok());
        let best = allowing.map(|plan| (plan, window::access(&plan.windows, now))).max_by(|a, b| a.1.cmp_use(&b.1));
        let is_default = life.queue == QueueId(Uuid::nil());
        match best {
            _ if is_default => {
                Admitted { plan: None, access: Access::Always, models: Vec::new(), lifetime_max_s: None }
            }
            Some((plan, access)) => {
                let Plan { id, models, lifetime_max_s, .. } = plan;
                Admitted { plan: Some(*id), access, models: models.clone(), lifetime_max_s: *lifetime_max_s }
            }
            None => Admitted {
                plan: None,
                access: Access::Closed { opens_at: None },
                models: Vec::new(),
                lifetime_max_s: None,
            },
        }
    }

    /// Whether the terms that were read last open the queue to the project. Where they do not, it may have been made, or
    /// opened, since.
    pub(super) fn is_opened(&self, project: ProjectId, queue: QueueId) -> bool {
        queue == QueueId(Uuid::nil()) || self.terms.plans.contains_key(&(project, queue))
    }

    /// Whether no window of the plans that open its queue opens once more: waiting helps nothing. Where no plan does, one
    /// may be granted; and one that was granted just before the start may not have been read yet.
    pub(super) fn never_opens(&self, life: &Life) -> bool {
        if self.now().duration_since(life.step_at) < SETTLED {
            return false;
        }
        let plans = self.terms.plans.get(&(life.project, life.queue)).map(Vec::as_slice).unwrap_or_default();
        plans.iter().any(|plan| plan.check(&life.spec).is_ok()) && !opens_again(plans, &life.spec, self.now())
    }

    /// The models of the fleet that a plan's names mean; the names themselves where none does, so that the reason is told.
    pub(super) fn permitted(&self, names: &[String]) -> Vec<DeviceModel> {
        if names.is_empty() {
            return Vec::new();
        }
        let models = self.fleet.models();
        let meant: Vec<DeviceModel> = models.into_iter().filter(|model| listed(names, model.as_str())).collect();
        if meant.is_empty() { names.iter().map(|name| DeviceModel::new(name)).collect() } else { meant }
    }
}
