//! Triggers: create, edit, start, pause, archive; previews, history and tokens. Refuses to fire any.

use crate::core::Core;
use crate::fault::Fault;
use crate::idempotent;
use crate::identity::Caller;
use crate::paging::Page;
use crate::triggers::{self, Checked, read, token, write};
use domain::{
    ErrorKind,
    id::TriggerId,
    trigger::{self, Every, Kind, Timetable, Window},
};
use jiff::Timestamp;
use proto::v1::{
    CreateTriggerRequest, CreateTriggerResponse, DeleteTriggerRequest, DeleteTriggerResponse, GetTriggerRequest,
    GetTriggerResponse, ListFiringsRequest, ListFiringsResponse, ListTriggerTokensRequest, ListTriggerTokensResponse,
    ListTriggersRequest, ListTriggersResponse, PauseTriggerRequest, PauseTriggerResponse, PreviewScheduleRequest,
    PreviewScheduleResponse, RotateTriggerTokenRequest, RotateTriggerTokenResponse, StartTriggerRequest,
    StartTriggerResponse, UpdateTriggerRequest, UpdateTriggerResponse, trigger_service_server::TriggerService,
};
use std::sync::Arc;
use store::{
    firing_views, pipelines,
    triggers::{Act, Listed, MANUAL, TOKENS_MAX},
};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.TriggerService`.
pub(crate) struct Triggers(pub(crate) Arc<Core>);

/// The times of a preview when the request does not say how many.
const PREVIEW_DEFAULT: usize = 10;
/// How long former tokens hold after a rotation, when the request does not say.
const OVERLAP_S_DEFAULT: u32 = 3_600;
/// And at most: 30 days.
const OVERLAP_S_MAX: u32 = 30 * 86_400;

fn id(text: &str) -> Result<TriggerId, Fault> {
    Ok(rpc::ids::parse(text, "trigger_id")?)
}

fn changed_meanwhile(listed: &Listed) -> Fault {
    let (name, version) = (&listed.trigger.name, listed.trigger.version);
    let message =
        format!("trigger `{name}` is in version {version}, which is not the one that was edited; read it again");
    Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message)
}

impl Triggers {
    async fn listed(&self, id: TriggerId) -> Result<proto::v1::Trigger, Fault> {
        Ok(write::trigger(triggers::find(&self.0, id).await?, Timestamp::now()))
    }

    async fn create(&self, caller: &Caller, request: CreateTriggerRequest) -> Result<CreateTriggerResponse, Fault> {
        let key = idempotent::Key::of(caller, "CreateTrigger", &request.idempotency_key, &request)?;
        trigger::check_name(&request.name).map_err(|invalid| triggers::refuse(&invalid))?;
        let taken = || {
            let message =
                format!("pipeline `{}` has a trigger `{}`; choose another name", request.pipeline, request.name);
            Fault::new(ErrorKind::AlreadyExists, "TRIGGER_EXISTS", message)
        };
        if request.name == MANUAL {
            return Err(taken());
        }
        let checked = Checked::of(read::spec(request.spec.clone().unwrap_or_default(), None)?)?;
        let workspace = self.0.workspace(&request.workspace).await?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        let head = pipelines::get(&transaction, workspace.id, &request.pipeline).await?.filter(|head| !head.archived);
        let head = head.ok_or_else(|| Fault::no_pipeline(&workspace.name, &request.pipeline))?;
        let count = store::triggers::count_held(&transaction, head.id, i64::from(trigger::OF_PIPELINE_MAX)).await?;
        if count >= i64::from(trigger::OF_PIPELINE_MAX) {
            let most = trigger::OF_PIPELINE_MAX;
            let message = format!(
                "pipeline `{}` has {most} triggers, which is the most it may have; delete some",
                request.pipeline
            );
            return Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_TRIGGERS", message));
        }
        let definition = checked.definition();
        let id = store::triggers::insert(&transaction, head.id, &request.name, request.active, definition).await?;
        let id = id.ok_or_else(taken)?;
        let listed = store::triggers::get(&transaction, id).await?.ok_or_else(|| triggers::none(id))?;
        let answer = CreateTriggerResponse { trigger: Some(write::trigger(listed, Timestamp::now())) };
        key.record(&transaction, &answer).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn list(&self, request: ListTriggersRequest) -> Result<ListTriggersResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let with_archived = request.with_archived;
        let scope = format!("triggers/{}/{}/{with_archived}", request.workspace, request.pipeline);
        let after: (String, String) = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let workspace = self.0.workspace(&request.workspace).await?;
        let db = self.0.store.client().await?;
        let pipeline = (!request.pipeline.is_empty()).then_some(request.pipeline.as_str());
        let after = (after.0.as_str(), after.1.as_str());
        let rows = store::triggers::list(&db, workspace.id, pipeline, with_archived, after, page.limit()).await?;
        let more = rows.len() > page.size();
        let mut listed = Vec::with_capacity(rows.len());
        for row in rows.into_iter().take(page.size()) {
            match row {
                Ok(row) => listed.push(row),
                Err(error) => tracing::warn!(error = runtime::exit::chain(&error), "a trigger cannot be shown"),
            }
        }
        let next_page_token = match listed.last() {
            Some(last) if more => rpc::paging::encode(&scope, &(&last.pipeline, &last.trigger.name))?,
            _ => String::new(),
        };
        let now = Timestamp::now();
        Ok(ListTriggersResponse {
            triggers: listed.into_iter().map(|listed| write::trigger(listed, now)).collect(),
            next_page_token,
        })
    }

    async fn update(&self, request: UpdateTriggerRequest) -> Result<proto::v1::Trigger, Fault> {
        let id = id(&request.trigger_id)?;
        let before = triggers::find(&self.0, id).await?;
        triggers::refuse_built_in(&before)?;
        let checked = Checked::of(read::spec(request.spec.unwrap_or_default(), Some(&before.trigger.spec))?)?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if !store::triggers::update(&transaction, id, request.version, checked.definition()).await? {
            drop(transaction);
            drop(db);
            // Its version now, since it may have changed after it was read.
            return Err(changed_meanwhile(&triggers::find(&self.0, id).await?));
        }
        transaction.commit().await.map_err(store::Error::from)?;
        drop(db);
        self.listed(id).await
    }

    async fn act(&self, trigger_id: &str, act: Act) -> Result<TriggerId, Fault> {
        let id = id(trigger_id)?;
        triggers::refuse_built_in(&triggers::find(&self.0, id).await?)?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if !store::triggers::act(&transaction, id, act).await? {
            return Err(triggers::none(id));
        }
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(id)
    }

    async fn preview(&self, request: PreviewScheduleRequest) -> Result<PreviewScheduleResponse, Fault> {
        let (timetable, window) = match (request.trigger_id.as_str(), request.schedule) {
            ("", Some(schedule)) => {
                let schedule = read::schedule(schedule, "spec.schedule")?;
                (schedule.compile().map_err(|invalid| triggers::refuse(&invalid))?, None)
            }
            ("", None) => return Err(Fault::field("trigger_id", "must name a trigger, unless there is a schedule")),
            (trigger, None) => self.timetable(id(trigger)?).await?,
            _ => return Err(Fault::field("schedule", "and a trigger exclude each other")),
        };
        let count = match usize::try_from(request.count) {
            Ok(0) => PREVIEW_DEFAULT,
            Ok(count) if count <= trigger::PREVIEW_MAX => count,
            _ => return Err(Fault::field("count", format!("must be 0 to {}", trigger::PREVIEW_MAX))),
        };
        let after = match request.after {
            Some(after) => rpc::timestamp::from_proto(&after, "after")?,
            None => Timestamp::now(),
        };
        let times = timetable.preview(window.as_ref(), after, count);
        let local = |at: &Timestamp| at.to_zoned(timetable.zone().clone()).to_string();
        Ok(PreviewScheduleResponse {
            local_times: times.iter().map(local).collect(),
            times: times.into_iter().map(rpc::timestamp::to_proto).collect(),
            always_on: *timetable.every() == Every::AlwaysOn && !timetable.closed_at(after),
        })
    }

    async fn timetable(&self, id: TriggerId) -> Result<(Timetable, Option<Window>), Fault> {
        let trigger = triggers::find(&self.0, id).await?.trigger;
        let timetable = trigger.spec.timetable().map_err(|invalid| triggers::refuse(&invalid))?.ok_or_else(|| {
            let message = format!("trigger `{}` has no schedule, so nobody knows when it comes", trigger.name);
            Fault::new(ErrorKind::FailedPrecondition, "NO_SCHEDULE", message)
        })?;
        Ok((timetable, trigger.spec.window))
    }

    async fn firings(&self, request: ListFiringsRequest) -> Result<ListFiringsResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let id = id(&request.trigger_id)?;
        let scope = format!("firings/{id}");
        let before: Option<(Timestamp, String)> = rpc::paging::decode(&scope, &request.page_token)?;
        let db = self.0.store.client().await?;
        let before = before.as_ref().map(|(at, key)| (*at, key.as_str()));
        let mut rows = firing_views::list(&db, id, before, page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |row| (row.created_at, row.logical_key.clone()))?;
        Ok(ListFiringsResponse { firings: rows.into_iter().map(write::firing).collect(), next_page_token })
    }

    async fn rotate(
        &self,
        caller: &Caller,
        request: RotateTriggerTokenRequest,
    ) -> Result<RotateTriggerTokenResponse, Fault> {
        let key = idempotent::Key::of(caller, "RotateTriggerToken", &request.idempotency_key, &request)?;
        let id = id(&request.trigger_id)?;
        let overlap_s = read::seconds(request.overlap, "overlap")?.unwrap_or(OVERLAP_S_DEFAULT);
        if overlap_s > OVERLAP_S_MAX {
            return Err(Fault::field("overlap", "must be at most 30 days"));
        }
        self.api_trigger(id).await?;
        let (text, token) = token::generate();
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = key.answered(&transaction).await? {
            return Ok(answer);
        }
        if store::triggers::tokens(&transaction, id).await?.len() >= TOKENS_MAX {
            let message = format!("{TOKENS_MAX} tokens of this trigger still hold; wait, or rotate without an overlap");
            if overlap_s > 0 {
                return Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_TOKENS", message));
            }
        }
        store::triggers::rotate(&transaction, id, &token, overlap_s).await?;
        let held = store::triggers::tokens(&transaction, id).await?.into_iter().find(|held| held.id == token.id);
        // It may have been deleted, or be called no more, since it was looked up.
        let held = held.ok_or_else(|| triggers::none(id))?;
        let kept = RotateTriggerTokenResponse { token: String::new(), held: Some(write::token(held)) };
        key.record(&transaction, &kept).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(RotateTriggerTokenResponse { token: text, ..kept })
    }

    async fn tokens(&self, request: ListTriggerTokensRequest) -> Result<ListTriggerTokensResponse, Fault> {
        let id = id(&request.trigger_id)?;
        self.api_trigger(id).await?;
        let db = self.0.store.client().await?;
        let tokens = store::triggers::tokens(&db, id).await?.into_iter().map(write::token).collect();
        Ok(ListTriggerTokensResponse { tokens })
    }

    async fn api_trigger(&self, id: TriggerId) -> Result<(), Fault> {
        let listed = triggers::find(&self.0, id).await?;
        if listed.trigger.spec.kind == Kind::Api {
            return Ok(());
        }
        let message =
            format!("trigger `{}` is not called, so it has no tokens; create one of kind api", listed.trigger.name);
        Err(Fault::new(ErrorKind::FailedPrecondition, "NOT_AN_API_TRIGGER", message))
    }
}

#[async_trait]
impl TriggerService for Triggers {
    async fn create_trigger(
        &self,
        request: Request<CreateTriggerRequest>,
    ) -> Result<Response<CreateTriggerResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.create(&caller, request.into_inner()).await?))
    }

    async fn get_trigger(&self, request: Request<GetTriggerRequest>) -> Result<Response<GetTriggerResponse>, Status> {
        let trigger = self.listed(id(&request.get_ref().trigger_id)?).await?;
        Ok(Response::new(GetTriggerResponse { trigger: Some(trigger) }))
    }

    async fn list_triggers(
        &self,
        request: Request<ListTriggersRequest>,
    ) -> Result<Response<ListTriggersResponse>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn update_trigger(
        &self,
        request: Request<UpdateTriggerRequest>,
    ) -> Result<Response<UpdateTriggerResponse>, Status> {
        let trigger = self.update(request.into_inner()).await?;
        Ok(Response::new(UpdateTriggerResponse { trigger: Some(trigger) }))
    }

    async fn start_trigger(
        &self,
        request: Request<StartTriggerRequest>,
    ) -> Result<Response<StartTriggerResponse>, Status> {
        let id = self.act(&request.get_ref().trigger_id, Act::Start).await?;
        Ok(Response::new(StartTriggerResponse { trigger: Some(self.listed(id).await?) }))
    }

    async fn pause_trigger(
        &self,
        request: Request<PauseTriggerRequest>,
    ) -> Result<Response<PauseTriggerResponse>, Status> {
        let id = self.act(&request.get_ref().trigger_id, Act::Pause).await?;
        Ok(Response::new(PauseTriggerResponse { trigger: Some(self.listed(id).await?) }))
    }

    async fn delete_trigger(
        &self,
        request: Request<DeleteTriggerRequest>,
    ) -> Result<Response<DeleteTriggerResponse>, Status> {
        self.act(&request.get_ref().trigger_id, Act::Archive).await?;
        Ok(Response::new(DeleteTriggerResponse {}))
    }

    async fn preview_schedule(
        &self,
        request: Request<PreviewScheduleRequest>,
    ) -> Result<Response<PreviewScheduleResponse>, Status> {
        Ok(Response::new(self.preview(request.into_inner()).await?))
    }

    async fn list_firings(
        &self,
        request: Request<ListFiringsRequest>,
    ) -> Result<Response<ListFiringsResponse>, Status> {
        Ok(Response::new(self.firings(request.into_inner()).await?))
    }

    async fn rotate_trigger_token(
        &self,
        request: Request<RotateTriggerTokenRequest>,
    ) -> Result<Response<RotateTriggerTokenResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.rotate(&caller, request.into_inner()).await?))
    }

    async fn list_trigger_tokens(
        &self,
        request: Request<ListTriggerTokensRequest>,
    ) -> Result<Response<ListTriggerTokensResponse>, Status> {
        Ok(Response::new(self.tokens(request.into_inner()).await?))
    }
}
