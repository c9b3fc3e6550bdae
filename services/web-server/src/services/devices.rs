//! The fleet: nodes, devices and who holds what of them; device classes and drains. Refuses to know how an inventory comes
//! about, and to move anybody.

use crate::changed::Changed;
use crate::consolidation;
use crate::core::Core;
use crate::disturbed;
use crate::fault::Fault;
use crate::identity::Caller;
use crate::paging::Page;
use crate::plans::check_list;
use crate::seen::{self, Seen};
use domain::ErrorKind;
use domain::device::{Sharing, WHOLE_MILLI};
use domain::role::Role;
use proto::internal::v1::{SeenNode, SeenStranger};
use proto::v1::{
    self, AffectedRuntime, DeleteDeviceClassRequest, DeleteDeviceClassResponse, DrainDevicesRequest,
    DrainDevicesResponse, ListDeviceClassesRequest, ListDeviceClassesResponse, ListDevicesRequest, ListDevicesResponse,
    ListNodesRequest, ListNodesResponse, PlanConsolidationRequest, PlanConsolidationResponse, SetDeviceClassRequest,
    SetDeviceClassResponse, UndrainDevicesRequest, UndrainDevicesResponse, device_service_server::DeviceService,
};
use rpc::status::Problem;
use std::sync::Arc;
use store::fleet_views::{self, Class, Device, Filter, Holder, Node};
use store::runtime_views::{self, Alive, Concerned};
use tonic::{Request, Response, Status, async_trait};

/// Serves `orrery.v1.DeviceService`.
pub(crate) struct Devices(pub(crate) Arc<Core>);

/// What a device class is on the wire.
const CLASS: &str = "orrery.v1.DeviceClass";
/// The longest name of a device class.
const CLASS_CHARS_MAX: usize = 63;
/// Device classes, so that one answer lists them all. Two that are set at the same time may both count as the last.
const CLASSES_MAX: usize = 1_000;
/// The longest reason of a drain.
const REASON_CHARS_MAX: usize = 200;

fn node(node: Node, seen: Option<&SeenNode>) -> v1::Node {
    let count = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
    let (code, condition) = trouble(&node, seen);
    let foreign = |seen: &SeenNode| {
        seen.devices.iter().map(|device| i64::from(seen::foreign(Some(device)).0)).fold(0, i64::saturating_add)
    };
    v1::Node {
        pool: node.pool,
        name: node.name,
        zone: node.zone,
        state: node.state,
        drained: node.drained.is_some(),
        drain_reason: node.drained.unwrap_or_default(),
        cpu_milli: node.cpu.0,
        cpu_held_milli: node.cpu.1,
        memory_bytes: node.memory.0,
        memory_held_bytes: node.memory.1,
        devices: count(node.devices),
        gpu_milli: node.devices.saturating_mul(i64::from(domain::device::WHOLE_MILLI)),
        gpu_held_milli: node.held_milli,
        code,
        condition,
        cpu_foreign_milli: seen.map(|seen| seen.cpu_milli),
        memory_foreign_bytes: seen.map(|seen| seen.memory_bytes),
        gpu_foreign_milli: seen.map(foreign),
    }
}

/// Why a node takes nobody new, as a code and a sentence: as its planner says, as its row does, or an administrator.
fn trouble(node: &Node, seen: Option<&SeenNode>) -> (String, String) {
    match (seen.filter(|seen| !seen.code.is_empty()), &node.drained) {
        (Some(seen), _) => (seen.code.clone(), seen.message.clone()),
        (None, _) if node.state != "ready" => {
            (format!("NODE_{}", node.state.to_uppercase()), format!("it is {}", node.state))
        }
        (None, Some(reason)) => ("NODE_DRAINED".to_owned(), drained(reason)),
        (None, None) => (String::new(), String::new()),
    }
}

fn drained(reason: &str) -> String {
    match reason {
        "" => "an administrator drained it".to_owned(),
        reason => format!("an administrator drained it: {reason}"),
    }
}

/// Why a device takes nobody new: by itself, for its node, or by an administrator's word.
fn ailment(device: &Device, seen: Option<&SeenNode>) -> (String, String) {
    let own = seen.and_then(|seen| seen::device(seen, &device.name)).filter(|own| !own.code.is_empty());
    match (own, seen.filter(|seen| !seen.code.is_empty()), &device.drained) {
        (Some(own), ..) => (own.code.clone(), device.condition.clone()),
        (None, Some(node), _) => (node.code.clone(), format!("its node: {}", node.message)),
        (None, None, Some(reason)) if device.healthy => (device.code.clone(), drained(reason)),
        (None, None, _) => (device.code.clone(), device.condition.clone()),
    }
}

/// `named` tells whether the caller may know who the strangers are.
fn device(device: Device, holders: Vec<Holder>, seen: Option<&SeenNode>, named: bool) -> v1::Device {
    let sharing = match serde_json::from_value(device.sharing.clone()) {
        Ok(Sharing::Exclusive) => "exclusive",
        Ok(Sharing::Shared { .. }) => "shared",
        Ok(Sharing::Partitioned { .. }) => "partitioned",
        Err(_) => "",
    };
    let (code, condition) = ailment(&device, seen);
    let own = seen.and_then(|seen| seen::device(seen, &device.name));
    let foreign = seen.map(|_| seen::foreign(own));
    let whole = i32::try_from(WHOLE_MILLI).unwrap_or(i32::MAX);
    let left = |milli: i32| whole.saturating_sub(device.held_milli).saturating_sub(milli).max(0);
    let strangers = own.filter(|_| named).into_iter().flat_map(|own| &own.strangers).map(stranger);
    v1::Device {
        free_milli: foreign.map(|(milli, _)| if code.is_empty() { left(milli) } else { 0 }),
        foreign_milli: foreign.map(|(milli, _)| milli),
        foreign_memory_bytes: foreign.map(|(_, bytes)| bytes),
        holders: holders.into_iter().map(holder).chain(strangers).collect(),
        pool: device.pool,
        node: device.node,
        name: device.name,
        hardware_id: device.hardware_id,
        class: device.class,
        model: device.model,
        memory_bytes: device.memory_bytes,
        sharing: sharing.to_owned(),
        enforcement: device.enforcement,
        healthy: device.healthy,
        condition,
        drained: device.drained.is_some(),
        held_milli: device.held_milli,
        held_memory_bytes: device.held_memory,
        code,
    }
}

fn stranger(stranger: &SeenStranger) -> v1::DeviceHolder {
    v1::DeviceHolder {
        milli: stranger.milli,
        memory_bytes: stranger.memory_bytes,
        state: "foreign".to_owned(),
        stranger: stranger.name.clone(),
        ..v1::DeviceHolder::default()
    }
}

fn holder(holder: Holder) -> v1::DeviceHolder {
    v1::DeviceHolder {
        workspace: holder.workspace,
        project: holder.project,
        queue: holder.queue,
        milli: holder.milli,
        memory_bytes: holder.memory_bytes,
        state: holder.state,
        stranger: String::new(),
    }
}

fn class(class: Class) -> v1::DeviceClass {
    v1::DeviceClass {
        name: class.name,
        sharing: class.sharing,
        step_milli: class.step_milli,
        enforcement: class.enforcement,
        models: class.models,
        claim_class: class.claim_class,
        worth: class.worth,
        version: class.version,
        devices: class.devices,
    }
}

fn decode(class: v1::DeviceClass) -> Result<Class, Fault> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name = &class.name;
    if name.len() > CLASS_CHARS_MAX || !name.chars().all(inner) || !name.starts_with(ends) || !name.ends_with(ends) {
        return Err(Fault::field("class.name", "must have 1 to 63 lower-case letters, digits, inner hyphens and dots"));
    }
    if !["exclusive", "shared", "mps", "mig"].contains(&class.sharing.as_str()) {
        return Err(Fault::field("class.sharing", "must be exclusive, shared, mps or mig"));
    }
    if !["hard", "soft", "accounting_only"].contains(&class.enforcement.as_str()) {
        return Err(Fault::field("class.enforcement", "must be hard, soft or accounting_only"));
    }
    check_list(&class.models, "class.models")?;
    if class.claim_class.len() > 253 {
        return Err(Fault::field("class.claim_class", "must be a name of at most 253 characters"));
    }
    let within = |value: i32, default: i32, max: i32, field: &'static str| match value {
        0 => Ok(default),
        value if (1..=max).contains(&value) => Ok(value),
        _ => Err(Fault::field(field, format!("must be 1 to {max}"))),
    };
    Ok(Class {
        step_milli: within(class.step_milli, 10, 1_000, "class.step_milli")?,
        worth: within(class.worth, 100, 1_000_000, "class.worth")?,
        name: class.name,
        sharing: class.sharing,
        enforcement: class.enforcement,
        models: class.models,
        claim_class: class.claim_class,
        version: class.version,
        devices: 0,
    })
}

fn pool(name: &str) -> &str {
    if name.is_empty() { "default" } else { name }
}

fn none(pool: &str, node: &str, device: &str) -> Fault {
    let message = match device {
        "" => format!("there is no node `{node}` in pool `{pool}`; `orrery gpus nodes` lists them"),
        device => format!("there is no device `{device}` on node `{node}` of pool `{pool}`; `orrery gpus` lists them"),
    };
    Fault::new(ErrorKind::NotFound, "DEVICE_NOT_FOUND", message)
}

impl Devices {
    async fn nodes(&self, request: ListNodesRequest) -> Result<ListNodesResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("nodes/{}", request.pool);
        let after: (String, String) = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let db = self.0.store.client().await?;
        let mut rows = fleet_views::nodes(&db, &request.pool, (&after.0, &after.1), page.limit()).await?;
        let next_page_token = page.cut(&scope, &mut rows, |node| (node.pool.clone(), node.name.clone()))?;
        drop(db);
        let seen = Seen::of(&self.0, rows.iter().map(|row| (row.pool.clone(), row.name.clone())).collect()).await;
        let with_seen = |row: Node| {
            let seen = seen.node(&row.pool, &row.name);
            node(row, seen)
        };
        Ok(ListNodesResponse { nodes: rows.into_iter().map(with_seen).collect(), next_page_token })
    }

    async fn devices(&self, caller: &Caller, request: ListDevicesRequest) -> Result<ListDevicesResponse, Fault> {
        let page = Page::of(request.page_size)?;
        let scope = format!("devices/{}/{}/{}", request.pool, request.node, request.model);
        let after: (String, String, String) = rpc::paging::decode(&scope, &request.page_token)?.unwrap_or_default();
        let filter = Filter { pool: &request.pool, node: &request.node, model: &request.model };
        let db = self.0.store.client().await?;
        let mut rows = fleet_views::devices(&db, filter, (&after.0, &after.1, &after.2), page.limit()).await?;
        let key = |device: &Device| (device.pool.clone(), device.node.clone(), device.name.clone());
        let next_page_token = page.cut(&scope, &mut rows, key)?;
        let ids: Vec<_> = rows.iter().map(|device| device.id).collect();
        let mut holders = fleet_views::holders(&db, &ids).await?;
        drop(db);
        let seen = Seen::of(&self.0, rows.iter().map(|row| (row.pool.clone(), row.node.clone())).collect()).await;
        let named = caller.user.role >= Some(Role::Admin);
        let mut with_holders = |found: Device| {
            let holders = holders.remove(&found.id).unwrap_or_default();
            let seen = seen.node(&found.pool, &found.node);
            device(found, holders, seen, named)
        };
        Ok(ListDevicesResponse { devices: rows.into_iter().map(&mut with_holders).collect(), next_page_token })
    }

    async fn set_class(&self, request: SetDeviceClassRequest) -> Result<Response<SetDeviceClassResponse>, Fault> {
        let wanted = decode(request.class.ok_or_else(|| Fault::field("class", "must say what it shall be"))?)?;
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let old = fleet_views::lock_class(&transaction, &wanted.name).await?;
        if wanted.version > 0 && old.as_ref().map(|old| old.version) != Some(wanted.version) {
            let message =
                format!("device class `{}` is not in the version that was edited; read it again", wanted.name);
            return Err(Fault::new(ErrorKind::Conflict, "CHANGED_MEANWHILE", message));
        }
        if old.is_none() && fleet_views::classes(&transaction).await?.len() >= CLASSES_MAX {
            let message = format!("there are {CLASSES_MAX} device classes already; delete some");
            return Err(Fault::new(ErrorKind::ResourceExhausted, "TOO_MANY_DEVICE_CLASSES", message));
        }
        let concerned = Concerned { class: Some(&wanted.name), ..Concerned::default() };
        let divided_anew = old.as_ref().is_some_and(|old| {
            (&old.sharing, old.step_milli, &old.claim_class)
                != (&wanted.sharing, wanted.step_milli, &wanted.claim_class)
        });
        let hard = |class: &Class| class.enforcement == "hard";
        let weaker = old.as_ref().is_some_and(|old| hard(old) && !hard(&wanted));
        let matters = divided_anew || weaker;
        let alive = if matters { runtime_views::alive(&transaction, &concerned).await? } else { Vec::new() };
        let affected = disturbed::affected(&alive, |life| {
            let as_root = weaker && life.spec.root && life.spec.ask.gpu_milli < WHOLE_MILLI;
            let root = as_root.then(|| disturbed::barred(life, "it is root on a share that nothing enforces then"));
            root.or_else(|| divided_anew.then(|| "keeps what it holds as it was divided before".to_owned()))
        });
        disturbed::unless_forced(&affected, request.force)?;
        fleet_views::set_class(&transaction, &wanted).await?;
        let set = fleet_views::lock_class(&transaction, &wanted.name).await?.map(class);
        transaction.commit().await.map_err(store::Error::from)?;
        let changed = Changed::between(CLASS, "class", old.map(class).as_ref(), set.as_ref());
        Ok(changed.told_with(SetDeviceClassResponse { class: set, affected }))
    }

    async fn delete_class(&self, name: &str) -> Result<Response<DeleteDeviceClassResponse>, Fault> {
        let mut db = self.0.store.client().await?;
        let transaction = db.transaction().await.map_err(store::Error::from)?;
        let old = fleet_views::lock_class(&transaction, name).await?.ok_or_else(|| {
            let message = format!("there is no device class `{name}`; `orrery gpus classes` lists them");
            Fault::new(ErrorKind::NotFound, "DEVICE_CLASS_NOT_FOUND", message)
        })?;
        if old.devices > 0 {
            let message = format!("{} devices of the fleet are of class `{name}`", old.devices);
            let problem = Problem::new(ErrorKind::FailedPrecondition, "DEVICE_CLASS_IN_USE", message);
            return Err(Fault(problem.remedy("take them out of the fleet first")));
        }
        fleet_views::delete_class(&transaction, name).await?;
        transaction.commit().await.map_err(store::Error::from)?;
        Ok(Changed::between(CLASS, "class", Some(&class(old)), None).told_with(DeleteDeviceClassResponse {}))
    }

    async fn drain(&self, request: DrainDevicesRequest) -> Result<Vec<AffectedRuntime>, Fault> {
        if request.reason.chars().count() > REASON_CHARS_MAX {
            return Err(Fault::field("reason", format!("must have at most {REASON_CHARS_MAX} characters")));
        }
        let DrainDevicesRequest { node, device, reason, .. } = &request;
        let pool = pool(&request.pool);
        let db = self.0.store.client().await?;
        if !fleet_views::exists(&db, pool, node, device).await? {
            return Err(none(pool, node, device));
        }
        if !request.validate_only {
            fleet_views::drain(&db, pool, node, device, reason).await?;
        }
        let device = Some(device.as_str()).filter(|device| !device.is_empty());
        let concerned = Concerned { node: Some((pool, node)), device, ..Concerned::default() };
        let alive = runtime_views::alive(&db, &concerned).await?;
        Ok(disturbed::affected(&alive, |life| Some(until(life))))
    }

    async fn undrain(&self, request: &UndrainDevicesRequest) -> Result<(), Fault> {
        let (pool, UndrainDevicesRequest { node, device, .. }) = (pool(&request.pool), request);
        if fleet_views::undrain(&self.0.store.client().await?, pool, node, device).await? {
            return Ok(());
        }
        let (message, remedy) = match device.as_str() {
            "" => (
                format!("node `{node}` of pool `{pool}` is not drained as a whole"),
                "where a device of it is, name that: `orrery gpus undrain NODE --device DEVICE`",
            ),
            device => (
                format!("device `{device}` of node `{node}` in pool `{pool}` is not drained by itself"),
                "where its node is, leave the device out: `orrery gpus undrain NODE`",
            ),
        };
        Err(Fault(Problem::new(ErrorKind::NotFound, "NOT_DRAINED", message).remedy(remedy)))
    }
}

/// How long a node or device that is drained waits for one.
fn until(life: &Alive) -> String {
    match life.ends_at {
        _ if disturbed::waits(life) => {
            "waits for a place that is kept for it there, and does not get it before the drain has ended".to_owned()
        }
        _ if life.state == "stopping" => "is stopping already".to_owned(),
        None => "goes on there until it stops".to_owned(),
        Some(at) => {
            let at = at.strftime("%Y-%m-%d %H:%M UTC");
            format!("goes on there until {at} as far as is known ({})", life.ends_because)
        }
    }
}

#[async_trait]
impl DeviceService for Devices {
    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(self.nodes(request.into_inner()).await?))
    }

    async fn list_devices(
        &self,
        request: Request<ListDevicesRequest>,
    ) -> Result<Response<ListDevicesResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.devices(&caller, request.into_inner()).await?))
    }

    async fn list_device_classes(
        &self,
        _: Request<ListDeviceClassesRequest>,
    ) -> Result<Response<ListDeviceClassesResponse>, Status> {
        let db = self.0.store.client().await.map_err(Fault::from)?;
        let classes = fleet_views::classes(&db).await.map_err(Fault::from)?;
        Ok(Response::new(ListDeviceClassesResponse { classes: classes.into_iter().map(class).collect() }))
    }

    async fn set_device_class(
        &self,
        request: Request<SetDeviceClassRequest>,
    ) -> Result<Response<SetDeviceClassResponse>, Status> {
        Ok(self.set_class(request.into_inner()).await?)
    }

    async fn delete_device_class(
        &self,
        request: Request<DeleteDeviceClassRequest>,
    ) -> Result<Response<DeleteDeviceClassResponse>, Status> {
        Ok(self.delete_class(&request.get_ref().name).await?)
    }

    async fn drain_devices(
        &self,
        request: Request<DrainDevicesRequest>,
    ) -> Result<Response<DrainDevicesResponse>, Status> {
        let affected = self.drain(request.into_inner()).await?;
        Ok(Response::new(DrainDevicesResponse { affected }))
    }

    async fn undrain_devices(
        &self,
        request: Request<UndrainDevicesRequest>,
    ) -> Result<Response<UndrainDevicesResponse>, Status> {
        self.undrain(request.get_ref()).await?;
        Ok(Response::new(UndrainDevicesResponse {}))
    }

    async fn plan_consolidation(
        &self,
        request: Request<PlanConsolidationRequest>,
    ) -> Result<Response<PlanConsolidationResponse>, Status> {
        Ok(Response::new(consolidation::plan(&self.0, pool(&request.get_ref().pool)).await?))
    }
}
