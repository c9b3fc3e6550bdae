//! Attempts of blocks that want devices: placed by the same plan as runtimes, held in the same ledger, counted for the same
//! quota.
//!
//! A wish is a level that an executor states, and no row. What it is given is one, whose id is made of the claim's name: so
//! whoever owns the pool next knows whose it is. It is kept until nobody wishes for it and its node, which tells of all its
//! devices, reports no stranger of that name. A block in its place is stopped for nobody. Refuses to know what a block is.

use super::{Placer, fleet, turn::Turn, wire};
use domain::{
    device::{Ask, GPUS_MAX, Link, WHOLE_MILLI},
    id::{HolderId, ProjectId, QueueId, WorkspaceId},
    quota::Account,
    window::Access,
};
use jiff::{SignedDuration, Timestamp};
use placement::{Owner, Request};
use proto::internal::v1::{self as pb, serve_response::Message as Said};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};
use store::{
    Error,
    ledger::{Placement, PlacementState},
    projects, workspaces,
};
use uuid::Uuid;

/// Wishes of one executor at a time.
const WISHES_MAX: usize = 1_000;
/// Blocks are nobody's victims; this is longer than any of them runs.
const PROTECTED: SignedDuration = SignedDuration::from_hours(24 * 365);
/// Reasons to wait that time alone does not take away.
const HOPELESS: [&str; 7] = [
    "ASK_INVALID",
    "QUOTA_TOO_SMALL",
    "QUEUE_TOO_SMALL",
    "MODEL_ABSENT",
    "SHARE_UNSUPPORTED",
    "NEVER_FITS",
    "PLANNER_FAILED",
];
/// Nobody knows the workspace that a wish names.
const NO_WORKSPACE: &str = "WORKSPACE_NOT_FOUND";

/// What is wished for, and what was given for wishes.
#[derive(Default)]
pub(super) struct Blocks {
    wishes: BTreeMap<HolderId, Wished>,
    /// Placements that are a block's.
    held: BTreeSet<HolderId>,
    /// Of these, those that nobody wishes for, and from when on that counts.
    unwished: HashMap<HolderId, Instant>,
    /// Something is to be told about these.
    news: BTreeSet<HolderId>,
}

/// One attempt that wants devices, or has them.
struct Wished {
    session: u64,
    claim: String,
    workspace: String,
    /// Its id and its project, known once they were looked up.
    whose: Option<(WorkspaceId, ProjectId)>,
    class: String,
    ask: Ask,
    since: Timestamp,
    /// Why it waits: a code, and a sentence.
    waits: (String, String),
}

impl Wished {
    fn project(&self) -> Option<ProjectId> {
        self.whose.map(|(_, project)| project)
    }
}

impl Blocks {
    /// What rows tell: wishes are stated again.
    pub(super) fn load<'a>(&mut self, placements: impl Iterator<Item = &'a HolderId>) {
        self.held = placements.copied().filter(|holder| wire::is_claim(*holder)).collect();
        self.unwished.clear();
        self.news = self.wishes.keys().copied().collect();
    }

    /// The projects whose terms have to be known.
    pub(super) fn projects(&self) -> impl Iterator<Item = ProjectId> {
        self.wishes.values().filter_map(Wished::project)
    }

    /// Something was given, or kept, for a wish.
    pub(super) fn placed(&mut self, holder: HolderId) {
        if wire::is_claim(holder) {
            self.held.insert(holder);
            self.news.insert(holder);
        }
    }

    /// Why a wish waits. False when it is no wish.
    pub(super) fn refused(&mut self, holder: HolderId, code: &str, sentence: &str) -> bool {
        let Some(wished) = self.wishes.get_mut(&holder) else { return false };
        if wished.waits.0 != code || wished.waits.1 != sentence {
            wished.waits = (code.to_owned(), sentence.to_owned());
            self.news.insert(holder);
        }
        true
    }
}

impl Placer {
    /// Takes over what an executor wishes for: all of it.
    pub(super) fn wish(&mut self, session: u64, message: pb::Wishes) {
        let mut named = HashSet::new();
        for wish in message.wishes.into_iter().take(WISHES_MAX) {
            let holder = wire::claim_id(&self.pool, &wish.claim);
            named.insert(holder);
            self.blocks.unwished.remove(&holder);
            if let Some(known) = self.blocks.wishes.get_mut(&holder) {
                if known.session != session {
                    known.session = session;
                    self.blocks.news.insert(holder);
                }
                continue;
            }
            let wished = wished(session, wish, self.now());
            self.planning.wants(&wished.ask);
            self.blocks.wishes.insert(holder, wished);
            self.blocks.news.insert(holder);
        }
        let is_over = |holder: &HolderId, wished: &mut Wished| wished.session == session && !named.contains(holder);
        let over: Vec<HolderId> = self.blocks.wishes.extract_if(.., is_over).map(|(holder, _)| holder).collect();
        for holder in over {
            self.blocks.unwished.insert(holder, Instant::now());
            self.planning.want();
        }
    }

    /// Looks up whose the new wishes are.
    pub(super) async fn know_wishes(&mut self) {
        let unknown = |wished: &&Wished| wished.whose.is_none() && wished.waits.0 != NO_WORKSPACE;
        let names: BTreeSet<String> =
            self.blocks.wishes.values().filter(unknown).map(|wished| wished.workspace.clone()).collect();
        for name in names {
            let whose = match self.whose(&name).await {
                Ok(whose) => whose,
                Err(error) => {
                    tracing::warn!(
                        error = runtime::exit::chain(&error),
                        "failed to read whose a block is; trying again"
                    );
                    return;
                }
            };
            for (holder, wished) in self.blocks.wishes.iter_mut().filter(|(_, wished)| wished.workspace == name) {
                wished.whose = whose;
                if whose.is_none() {
                    wished.waits = (NO_WORKSPACE.to_owned(), format!("there is no workspace `{name}`"));
                    self.blocks.news.insert(*holder);
                }
            }
            if whose.is_some_and(|(_, project)| !self.terms_of.contains(&Account::Project(project))) {
                self.terms_read_at = None;
            }
            self.planning.want();
        }
    }

    async fn whose(&self, workspace: &str) -> Result<Option<(WorkspaceId, ProjectId)>, Error> {
        let client = self.parts.store.client().await?;
        let Some(workspace) = workspaces::get(&client, workspace).await? else { return Ok(None) };
        Ok(projects::get(&client, &workspace.project).await?.map(|project| (workspace.id, project.id)))
    }

    /// Takes back what nobody wishes for, once it is not in use; and places that cannot be had any more.
    pub(super) fn tidy_blocks(&mut self, turn: &mut Turn) {
        let (fleet, lost_after) = (&self.fleet, self.parts.timing.lost_after);
        // They may come again, with another stream.
        self.blocks.wishes.retain(|_, wished| fleet.knows(wished.session));
        let mut over = Vec::new();
        for holder in &self.blocks.held {
            let Some(placement) = self.placements.get(holder) else { continue };
            let devices = placement.grants.iter().map(|grant| grant.device);
            if !self.blocks.wishes.contains_key(holder) {
                if placement.state != PlacementState::Nominated && !fleet.is_known(placement.node, devices) {
                    // Its Job may have the devices still. Time counts from when its node is heard of, and all of them.
                    self.blocks.unwished.remove(holder);
                    continue;
                }
                let from = *self.blocks.unwished.entry(*holder).or_insert_with(|| Instant::now() + lost_after);
                if from <= Instant::now() && !fleet.has_stranger(placement.node, *holder) {
                    over.push((*holder, placement.project));
                }
            } else if placement.state == PlacementState::Nominated
                && (!fleet.is_usable(placement.node, devices) || self.is_kept_in_vain(placement))
            {
                over.push((*holder, placement.project));
            }
        }
        for (holder, project) in over {
            self.take_back(holder, project, turn);
        }
        let placements = &self.placements;
        self.blocks.held.retain(|holder| placements.contains_key(holder));
        let held = &self.blocks.held;
        self.blocks.unwished.retain(|holder, _| held.contains(holder));
    }

    /// What is kept for a wish, and for nothing else, is kept no more: it waits as it did.
    pub(super) fn give_up_kept(&mut self, holder: HolderId, turn: &mut Turn) {
        let placement = self.placements.get(&holder).filter(|placement| placement.state == PlacementState::Nominated);
        if let Some(project) = placement.filter(|_| wire::is_claim(holder)).map(|placement| placement.project) {
            self.take_back(holder, project, turn);
        }
    }

    fn take_back(&mut self, holder: HolderId, project: ProjectId, turn: &mut Turn) {
        self.placements.remove(&holder);
        turn.release(holder, project);
        self.planning.want();
    }

    /// Until something that nobody wishes for is to be looked at.
    pub(super) fn until_unwished(&self) -> Option<Duration> {
        let first = self.blocks.unwished.values().min()?;
        Some(first.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// Those that wait, as the planner takes them.
    pub(super) fn block_requests(&self) -> impl Iterator<Item = Request> {
        let waits = |holder: &HolderId| {
            self.placements.get(holder).is_none_or(|placement| placement.state == PlacementState::Nominated)
        };
        self.blocks.wishes.iter().filter(move |(holder, _)| waits(holder)).filter_map(|(holder, wished)| {
            Some(Request {
                holder: *holder,
                project: wished.project()?,
                person: self.person_of(wished.project()?, None),
                queue: QueueId(Uuid::nil()),
                priority: 0,
                submitted_at: wished.since,
                ask: wished.ask.clone(),
                storage_bytes: 0,
                nodes: None,
                gang: None,
                runtime_s: None,
                access: Access::Always,
                permitted: Vec::new(),
                class: Some(wished.class.clone()),
                alternatives: Vec::new(),
            })
        })
    }

    /// The row of what a wish is given; `None` for what is no wish.
    pub(super) fn block_placement(
        &self,
        holder: HolderId,
        place: placement::Place,
        state: PlacementState,
        victims: Vec<HolderId>,
    ) -> Option<Placement> {
        let wished = self.blocks.wishes.get(&holder)?;
        let first = place.grants.first().and_then(|grant| self.fleet.device(place.node, grant.device));
        Some(Placement {
            holder,
            node: place.node,
            project: wished.project()?,
            person: self.person_of(wished.project()?, None),
            workspace: wished.whose.map(|(workspace, _)| workspace),
            queue: QueueId(Uuid::nil()),
            state,
            // Its pod counts for the node, as a stranger's.
            cpu_milli: 0,
            memory_bytes: 0,
            effective_milli: wished.ask.effective_milli(),
            storage_bytes: 0,
            model: first.map(|device| device.model.clone()).unwrap_or_default(),
            victims,
            grants: place.grants,
        })
    }

    /// Whose a wish is, in words.
    pub(super) fn block_name(&self, holder: HolderId) -> Option<String> {
        self.blocks.wishes.get(&holder).map(|wished| format!("a block of workspace {}", wished.workspace))
    }

    /// For whom a block's devices count, for the planner; `None` for what is no block's.
    pub(super) fn block_owner(&self, placement: &Placement) -> Option<Owner> {
        wire::is_claim(placement.holder).then(|| Owner {
            project: placement.project,
            person: placement.person,
            queue: placement.queue,
            priority: 0,
            effective_milli: placement.effective_milli,
            storage_bytes: 0,
            protected_until: self.now().checked_add(PROTECTED).ok(),
            gang: None,
        })
    }

    /// Tells executors how their wishes stand.
    pub(super) fn tell_wishes(&mut self) {
        let mut places: BTreeMap<u64, Vec<pb::Place>> = BTreeMap::new();
        for holder in std::mem::take(&mut self.blocks.news) {
            let Some(wished) = self.blocks.wishes.get(&holder) else { continue };
            let placement = self.placements.get(&holder).filter(|placement| placement.state == PlacementState::Held);
            let place = match placement {
                Some(placement) => self.place_of(wished, placement),
                None => Some(pb::Place {
                    claim: wished.claim.clone(),
                    code: wished.waits.0.clone(),
                    message: wished.waits.1.clone(),
                    hopeless: wished.waits.0 == NO_WORKSPACE || HOPELESS.contains(&wished.waits.0.as_str()),
                    ..pb::Place::default()
                }),
            };
            match place {
                Some(place) => places.entry(wished.session).or_default().push(place),
                // A device of it is not reported at present.
                None => {
                    self.blocks.news.insert(holder);
                }
            }
        }
        for (session, places) in places {
            self.fleet.say(session, Said::Places(pb::Places { places }));
        }
    }

    fn place_of(&self, wished: &Wished, placement: &Placement) -> Option<pb::Place> {
        let pinned = |grant: &domain::device::Grant| {
            let device = self.fleet.device(placement.node, grant.device)?;
            let (cores, cores_step) = self.fleet.cores(placement.node, grant.device)?;
            Some(pb::PinnedDevice {
                grant: Some(pb::DeviceGrant {
                    device: device.name.clone(),
                    milli: i32::try_from(grant.milli).unwrap_or(i32::MAX),
                    memory_bytes: i64::try_from(grant.memory_bytes).unwrap_or(i64::MAX),
                    profile: fleet::profile(device, grant.slots),
                    slots: grant.slots,
                }),
                hardware_id: device.hardware_id.clone(),
                class: device.class.clone(),
                cores,
                cores_step,
            })
        };
        Some(pb::Place {
            claim: wished.claim.clone(),
            node: self.fleet.name_of(placement.node).to_owned(),
            devices: placement.grants.iter().map(pinned).collect::<Option<_>>()?,
            ..pb::Place::default()
        })
    }
}

/// A wish as it is kept. What makes no sense is the planner's to refuse, but for numbers that are none.
fn wished(session: u64, wish: pb::Wish, now: Timestamp) -> Wished {
    let amount = |value: i64| u64::try_from(value).unwrap_or(0);
    let ask = Ask {
        gpus: u32::try_from(wish.count).unwrap_or(0).min(GPUS_MAX + 1),
        gpu_milli: u32::try_from(wish.milli).unwrap_or(0).min(WHOLE_MILLI),
        gpu_memory_bytes: Some(amount(wish.device_memory_bytes)).filter(|bytes| *bytes > 0),
        models: Vec::new(),
        models_ordered: false,
        link: Link::Any,
        cpu_milli: amount(wish.cpu_milli),
        memory_bytes: amount(wish.memory_bytes),
    };
    Wished {
        session,
        claim: wish.claim,
        workspace: wish.workspace,
        whose: None,
        class: wish.class,
        ask,
        since: now,
        waits: (String::new(), String::new()),
    }
}
