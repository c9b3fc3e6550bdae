//! The table. A row is: what is called, who may, on which addressed thing, and which fields its trail tells.

use super::told;
use domain::role::Role::{self, Admin, Editor, Owner, Viewer};
use std::collections::HashMap;

/// The two fields of a `scope`.
const SCOPE_WORKSPACE: &str = "scope.workspace";
const SCOPE_PROJECT: &str = "scope.project";

/// The package whose methods are public.
pub(super) const PACKAGE: &str = "orrery.v1";

/// Who may.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    /// Anybody, without a credential.
    Everybody,
    /// Everybody who is signed in; the answer holds only what they may see.
    SignedIn,
    /// Those with this role over the whole cluster.
    Cluster(Role),
    /// The same, with an act on one thing: whoever answers for that sees it in the trail, and may not do it.
    ClusterOn(Thing, Role),
    /// Those with this role on the thing that the request addresses, or over the whole cluster.
    On(Thing, Role),
    /// What the method allows that the route stands for.
    AsMethod,
}

/// What a request addresses, by the name of the field that holds its name or id.
#[derive(Debug, Clone, Copy)]
pub(super) enum Thing {
    /// A project by name.
    Project(&'static str),
    /// A project by name; left empty, the caller's personal one, or what the caller may see of all.
    ProjectOrOwn(&'static str),
    /// A workspace by name.
    Workspace(&'static str),
    /// A workspace by name; left empty, the whole cluster.
    WorkspaceOrCluster(&'static str),
    /// A workspace by name; left empty, what the caller has of their own.
    WorkspaceOrOwn(&'static str),
    /// A run by id.
    Run(&'static str),
    /// A trigger by id.
    Trigger(&'static str),
    /// A backfill by id.
    Backfill(&'static str),
    /// A trigger by id; left empty, nothing.
    TriggerOrNothing(&'static str),
    /// A version of a model by id.
    ModelVersion(&'static str),
    /// An upload of a model by id.
    Upload(&'static str),
    /// The workspace, else the project, of the message `scope`.
    Scope,
}

impl Thing {
    /// The field that holds its name or id.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Project(field)
            | Self::ProjectOrOwn(field)
            | Self::Workspace(field)
            | Self::WorkspaceOrCluster(field)
            | Self::WorkspaceOrOwn(field)
            | Self::Run(field)
            | Self::Trigger(field)
            | Self::Backfill(field)
            | Self::ModelVersion(field)
            | Self::Upload(field)
            | Self::TriggerOrNothing(field) => field,
            Self::Scope => SCOPE_WORKSPACE,
        }
    }

    /// The narrower of two things, where a request may address either.
    pub(super) fn narrowed(self, addressed: &HashMap<&'static str, String>) -> Self {
        match self {
            Self::Scope if addressed.get(SCOPE_WORKSPACE).is_none_or(String::is_empty) => Self::Project(SCOPE_PROJECT),
            Self::Scope => Self::Workspace(SCOPE_WORKSPACE),
            other => other,
        }
    }

    /// What it is, in a word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Project(_) | Self::ProjectOrOwn(_) => "project",
            Self::Workspace(_) | Self::WorkspaceOrCluster(_) | Self::WorkspaceOrOwn(_) | Self::Scope => "workspace",
            Self::Run(_) => "run",
            Self::Backfill(_) => "backfill",
            Self::ModelVersion(_) => "model version",
            Self::Upload(_) => "upload",
            Self::Trigger(_) | Self::TriggerOrNothing(_) => "trigger",
        }
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// The full name of a method, or the template of a route.
    pub(super) path: &'static str,
    /// Who may.
    pub(super) who: Who,
    /// The fields that the trail tells; `None` for what leaves none because it changes nothing.
    pub(super) told: Option<&'static [&'static str]>,
    /// Also on what is archived, though it changes it.
    pub(super) even_archived: bool,
    /// The field with the name of a pipeline of the addressed workspace, where the act begins by reading that: it is asked for
    /// together with the workspace, and handed on when the act is granted.
    pub(super) pipeline: Option<&'static str>,
}

impl Row {
    /// Every field that the row needs of a request, once.
    pub(super) fn fields(&self) -> Vec<&'static str> {
        let mut fields: Vec<_> = self.told.unwrap_or_default().to_vec();
        for field in self.thing().map(Thing::field).into_iter().chain(self.pipeline) {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        if matches!(self.who, Who::On(Thing::Scope, _)) {
            fields.push(SCOPE_PROJECT);
        }
        fields
    }

    /// It leaves a trail.
    pub(super) const fn audited(&self) -> bool {
        self.told.is_some()
    }

    /// What it addresses.
    pub(super) const fn thing(&self) -> Option<Thing> {
        match self.who {
            Who::On(thing, _) | Who::ClusterOn(thing, _) => Some(thing),
            _ => None,
        }
    }

    /// It addresses a thing.
    pub(super) const fn addresses(&self) -> bool {
        self.thing().is_some()
    }
}

/// What changes nothing.
const fn read(path: &'static str, who: Who) -> Row {
    Row { path, who, told: None, even_archived: true, pipeline: None }
}

/// What changes something, and the fields that its trail tells.
const fn act(path: &'static str, who: Who, told: &'static [&'static str]) -> Row {
    Row { path, who, told: Some(told), even_archived: false, pipeline: None }
}

/// As [`act`], on what is archived too.
const fn act_even_archived(path: &'static str, who: Who, told: &'static [&'static str]) -> Row {
    Row { path, who, told: Some(told), even_archived: true, pipeline: None }
}

/// As [`act`], on a pipeline of a workspace.
const fn act_on_pipeline(path: &'static str, who: Who, told: &'static [&'static str]) -> Row {
    Row { path, who, told: Some(told), even_archived: false, pipeline: Some("pipeline") }
}

use Thing::{
    Backfill, ModelVersion, Project, ProjectOrOwn, Run, Scope, Trigger, TriggerOrNothing, Upload, Workspace,
    WorkspaceOrCluster, WorkspaceOrOwn,
};
use Who::{AsMethod, Cluster, ClusterOn, Everybody, On, SignedIn};

/// Methods of the contract.
const METHODS: &[Row] = &[
    // --- people
    act("/orrery.v1.SignInService/SignIn", Everybody, &["email"]),
    read("/orrery.v1.SignInService/WhoAmI", SignedIn),
    act("/orrery.v1.SignInService/SignOut", SignedIn, &[]),
    act("/orrery.v1.SignInService/ChangePassword", SignedIn, &[]),
    act("/orrery.v1.UserService/CreateUser", Cluster(Admin), &["email", "role"]),
    read("/orrery.v1.UserService/ListUsers", Cluster(Viewer)),
    act("/orrery.v1.UserService/SetUserRole", Cluster(Admin), &["email", "role"]),
    act("/orrery.v1.UserService/DisableUser", Cluster(Admin), &["email"]),
    act("/orrery.v1.UserService/EnableUser", Cluster(Admin), &["email"]),
    act("/orrery.v1.UserService/ResetPassword", Cluster(Admin), &["email"]),
    act("/orrery.v1.UserService/UnlinkUser", Cluster(Admin), &["email"]),
    act("/orrery.v1.GroupService/CreateGroup", Cluster(Admin), &["name"]),
    read("/orrery.v1.GroupService/ListGroups", Cluster(Viewer)),
    act("/orrery.v1.GroupService/DeleteGroup", Cluster(Admin), &["name"]),
    read("/orrery.v1.GroupService/ListGroupMembers", Cluster(Viewer)),
    act("/orrery.v1.GroupService/AddGroupMember", Cluster(Admin), &["name", "email"]),
    act("/orrery.v1.GroupService/RemoveGroupMember", Cluster(Admin), &["name", "email"]),
    act("/orrery.v1.TokenService/CreateToken", SignedIn, &["name"]),
    read("/orrery.v1.TokenService/ListTokens", SignedIn),
    // What is given may be a whole token by mistake: the trail tells none of it.
    act("/orrery.v1.TokenService/RevokeToken", SignedIn, &[]),
    // --- projects
    act("/orrery.v1.ProjectService/CreateProject", Cluster(Editor), &["name", "owner_group"]),
    read("/orrery.v1.ProjectService/GetProject", On(Project("project"), Viewer)),
    read("/orrery.v1.ProjectService/ListProjects", SignedIn),
    act("/orrery.v1.ProjectService/ArchiveProject", On(Project("project"), Owner), &["project"]),
    read("/orrery.v1.ProjectService/ListProjectMembers", On(Project("project"), Viewer)),
    act(
        "/orrery.v1.ProjectService/SetProjectMember",
        On(Project("project"), Admin),
        &["member.email", "member.group", "member.role"],
    ),
    act("/orrery.v1.ProjectService/RemoveProjectMember", On(Project("project"), Admin), &["email", "group"]),
    // --- workspaces
    act("/orrery.v1.WorkspaceService/CreateWorkspace", On(ProjectOrOwn("project"), Editor), &["name", "project"]),
    read("/orrery.v1.WorkspaceService/GetWorkspace", On(Workspace("name"), Viewer)),
    read("/orrery.v1.WorkspaceService/ListWorkspaces", SignedIn),
    act_even_archived("/orrery.v1.WorkspaceService/ArchiveWorkspace", On(Workspace("name"), Admin), &["name", "force"]),
    act_even_archived("/orrery.v1.WorkspaceService/RestoreWorkspace", On(Workspace("name"), Admin), &["name"]),
    read("/orrery.v1.MemberService/ListMembers", On(Workspace("workspace"), Viewer)),
    act("/orrery.v1.MemberService/InviteMember", On(Workspace("workspace"), Admin), &["email", "role"]),
    act("/orrery.v1.MemberService/SetMemberRole", On(Workspace("workspace"), Admin), &["email", "role"]),
    act("/orrery.v1.MemberService/RemoveMember", On(Workspace("workspace"), Admin), &["email"]),
    read("/orrery.v1.AuditService/ListAuditEntries", On(WorkspaceOrCluster("workspace"), Admin)),
    // --- secrets: nothing reads a value back
    act("/orrery.v1.SecretService/SetSecret", On(Scope, Admin), &["name", "scope.pipeline"]),
    read("/orrery.v1.SecretService/ListSecrets", On(Scope, Editor)),
    act("/orrery.v1.SecretService/DeleteSecret", On(Scope, Admin), &["name", "scope.pipeline"]),
    act("/orrery.v1.SecretService/RotateSecrets", Cluster(Owner), &[]),
    // --- pipelines and runs
    read("/orrery.v1.DeploymentService/PlanDeployment", On(Workspace("workspace"), Editor)),
    // Files have no tenant in the store; who brings them says for which workspace, whose project pays for them.
    act("/orrery.v1.DeploymentService/UploadFiles", On(WorkspaceOrOwn("workspace"), Editor), &[]),
    act("/orrery.v1.DeploymentService/CreateDeployment", On(Workspace("workspace"), Editor), &["validate_only"]),
    read("/orrery.v1.PipelineService/GetPipeline", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.PipelineService/ListPipelines", On(Workspace("workspace"), Viewer)),
    act_on_pipeline("/orrery.v1.RunService/CreateRun", On(Workspace("workspace"), Editor), &["pipeline"]),
    act_on_pipeline("/orrery.v1.RunService/BatchCreateRuns", On(Workspace("workspace"), Editor), &["pipeline"]),
    read("/orrery.v1.RunService/GetRun", On(Run("run_id"), Viewer)),
    read("/orrery.v1.RunService/ListRuns", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.RunService/ListBlockRuns", On(Run("run_id"), Viewer)),
    read("/orrery.v1.RunService/WatchRun", On(Run("run_id"), Viewer)),
    act_even_archived("/orrery.v1.RunService/CancelRun", On(Run("run_id"), Editor), &["reason"]),
    act("/orrery.v1.RunService/RetryRun", On(Run("run_id"), Editor), &["mode", "from_block"]),
    read("/orrery.v1.LogService/ListLogs", On(Run("run_id"), Viewer)),
    read("/orrery.v1.LogService/TailLogs", On(Run("run_id"), Viewer)),
    read("/orrery.v1.LogService/SearchLogs", On(Workspace("workspace"), Viewer)),
    act("/orrery.v1.LogService/CleanLogs", Cluster(Admin), &["dry_run"]),
    read("/orrery.v1.OutputService/GetOutputs", On(Run("run_id"), Viewer)),
    // Nothing is masked in it.
    read("/orrery.v1.OutputService/DownloadOutput", On(Run("run_id"), Editor)),
    act("/orrery.v1.OutputService/CleanOutputs", On(Workspace("workspace"), Editor), &["pipeline", "dry_run"]),
    read("/orrery.v1.MonitorService/GetRunStatistics", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.MonitorService/GetBlockStatistics", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.MonitorService/GetGpuStatistics", Cluster(Viewer)),
    read("/orrery.v1.NotificationService/ListNotifications", On(Workspace("workspace"), Viewer)),
    // Addresses of receivers are often secrets.
    read("/orrery.v1.NotificationService/ListNotificationConfigs", On(Workspace("workspace"), Editor)),
    act("/orrery.v1.NotificationService/SetNotificationConfig", On(Workspace("workspace"), Editor), &["pipeline"]),
    act("/orrery.v1.NotificationService/TestNotifications", On(Workspace("workspace"), Editor), &["pipeline"]),
    // --- models
    act("/orrery.v1.ModelService/StartUpload", On(Workspace("workspace"), Editor), &["name", "file_name", "sha256"]),
    act("/orrery.v1.ModelService/UploadModel", On(Upload("header.upload_id"), Editor), &[]),
    read("/orrery.v1.ModelService/ListModels", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.ModelService/ListModelVersions", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.ModelService/DownloadModel", On(ModelVersion("version_id"), Viewer)),
    act("/orrery.v1.ModelService/ArchiveModel", On(Workspace("workspace"), Editor), &["name"]),
    // Of the workspaces that the caller may see.
    read("/orrery.v1.ModelService/CountModels", SignedIn),
    // --- triggers
    act("/orrery.v1.TriggerService/CreateTrigger", On(Workspace("workspace"), Editor), &["pipeline", "name", "active"]),
    read("/orrery.v1.TriggerService/GetTrigger", On(Trigger("trigger_id"), Viewer)),
    read("/orrery.v1.TriggerService/ListTriggers", On(Workspace("workspace"), Viewer)),
    act("/orrery.v1.TriggerService/UpdateTrigger", On(Trigger("trigger_id"), Editor), &["version"]),
    act("/orrery.v1.TriggerService/StartTrigger", On(Trigger("trigger_id"), Editor), &[]),
    act("/orrery.v1.TriggerService/PauseTrigger", On(Trigger("trigger_id"), Editor), &[]),
    act("/orrery.v1.TriggerService/DeleteTrigger", On(Trigger("trigger_id"), Editor), &[]),
    read("/orrery.v1.TriggerService/PreviewSchedule", On(TriggerOrNothing("trigger_id"), Viewer)),
    read("/orrery.v1.TriggerService/ListFirings", On(Trigger("trigger_id"), Viewer)),
    act("/orrery.v1.TriggerService/RotateTriggerToken", On(Trigger("trigger_id"), Editor), &[]),
    read("/orrery.v1.TriggerService/ListTriggerTokens", On(Trigger("trigger_id"), Editor)),
    // --- backfills and limits
    act("/orrery.v1.BackfillService/CreateBackfill", On(Workspace("workspace"), Editor), &["pipeline"]),
    read("/orrery.v1.BackfillService/PreviewBackfill", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.BackfillService/GetBackfill", On(Backfill("backfill_id"), Viewer)),
    read("/orrery.v1.BackfillService/ListBackfills", On(Workspace("workspace"), Viewer)),
    act_even_archived("/orrery.v1.BackfillService/PauseBackfill", On(Backfill("backfill_id"), Editor), &[]),
    act("/orrery.v1.BackfillService/ResumeBackfill", On(Backfill("backfill_id"), Editor), &[]),
    act_even_archived("/orrery.v1.BackfillService/CancelBackfill", On(Backfill("backfill_id"), Editor), &[]),
    read("/orrery.v1.LimitService/ListLimits", On(Workspace("workspace"), Viewer)),
    act("/orrery.v1.LimitService/SetLimit", On(Workspace("workspace"), Editor), &["name", "max_blocks"]),
    act("/orrery.v1.LimitService/RemoveLimit", On(Workspace("workspace"), Editor), &["name"]),
    act("/orrery.v1.EventService/PublishEvent", On(Workspace("workspace"), Editor), &[]),
    // --- runtimes: collaborators run them, owners take them away
    act(
        "/orrery.v1.RuntimeService/SetRuntimeSpec",
        On(Workspace("workspace"), Editor),
        &["queue", "spec.image", "spec.root", "spec.gpus", "spec.sm_percent", "validate_only"],
    ),
    read("/orrery.v1.RuntimeService/GetRuntime", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.RuntimeService/ListRuntimes", SignedIn),
    read("/orrery.v1.RuntimeService/ListRuntimeEvents", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.RuntimeService/WatchRuntime", On(Workspace("workspace"), Viewer)),
    read("/orrery.v1.RuntimeService/PlanRuntime", On(Workspace("workspace"), Viewer)),
    act("/orrery.v1.RuntimeService/StartRuntime", On(Workspace("workspace"), Editor), &["wait_for_window"]),
    act_even_archived("/orrery.v1.RuntimeService/StopRuntime", On(Workspace("workspace"), Editor), &[]),
    act("/orrery.v1.RuntimeService/RestartRuntime", On(Workspace("workspace"), Editor), &[]),
    act_even_archived("/orrery.v1.RuntimeService/ResetRuntime", On(Workspace("workspace"), Editor), &[]),
    act_even_archived("/orrery.v1.RuntimeService/DeleteRuntime", On(Workspace("workspace"), Admin), &[]),
    // A wrong word gives a device to two.
    act("/orrery.v1.RuntimeService/FenceRuntime", ClusterOn(Workspace("workspace"), Admin), &[]),
    // Each of them is authorised, and leaves an entry, by itself.
    act("/orrery.v1.RuntimeService/BatchChangeRuntimes", SignedIn, &["act", "together"]),
    act("/orrery.v1.RuntimeService/SwitchQueue", On(Workspace("workspace"), Editor), &["queue"]),
    act("/orrery.v1.RuntimeService/SnoozeRuntime", On(Workspace("workspace"), Editor), &[]),
    // --- volumes: who may make a workspace makes them, and their files go by an administrator of the project
    act(
        "/orrery.v1.VolumeService/CreateVolume",
        On(Project("project"), Editor),
        &["name", "size_bytes", "pool", "storage_class"],
    ),
    read("/orrery.v1.VolumeService/ListVolumes", On(Project("project"), Viewer)),
    act("/orrery.v1.VolumeService/GrowVolume", On(Project("project"), Editor), &["name", "size_bytes"]),
    act_even_archived("/orrery.v1.VolumeService/DeleteVolume", On(Project("project"), Admin), &["name"]),
    // --- what runtimes may have: administrators set it
    read("/orrery.v1.QueueService/ListQueues", SignedIn),
    act("/orrery.v1.QueueService/SetQueue", Cluster(Admin), told::QUEUE),
    act("/orrery.v1.QueueService/ArchiveQueue", Cluster(Admin), &["name"]),
    read("/orrery.v1.PlanService/ListPlans", SignedIn),
    act("/orrery.v1.PlanService/SetPlan", Cluster(Admin), told::PLAN),
    act("/orrery.v1.PlanService/ArchivePlan", Cluster(Admin), &["name", "force"]),
    act("/orrery.v1.PlanService/GrantPlan", Cluster(Admin), &["project", "plan"]),
    act("/orrery.v1.PlanService/RevokePlan", Cluster(Admin), &["project", "plan", "force"]),
    read("/orrery.v1.PolicyService/GetProjectPolicy", On(Project("project"), Viewer)),
    act("/orrery.v1.PolicyService/SetProjectPolicy", Cluster(Admin), told::PROJECT_POLICY),
    read("/orrery.v1.PolicyService/GetGroupPolicy", Cluster(Viewer)),
    act("/orrery.v1.PolicyService/SetGroupPolicy", Cluster(Admin), told::GROUP_POLICY),
    read("/orrery.v1.PolicyService/GetUserQuota", Cluster(Viewer)),
    act("/orrery.v1.PolicyService/SetUserQuota", Cluster(Admin), told::USER_QUOTA),
    read("/orrery.v1.DeviceService/ListNodes", Cluster(Viewer)),
    read("/orrery.v1.DeviceService/ListDevices", Cluster(Viewer)),
    read("/orrery.v1.DeviceService/ListDeviceClasses", SignedIn),
    act("/orrery.v1.DeviceService/SetDeviceClass", Cluster(Admin), told::DEVICE_CLASS),
    act("/orrery.v1.DeviceService/DeleteDeviceClass", Cluster(Admin), &["name"]),
    act(
        "/orrery.v1.DeviceService/DrainDevices",
        Cluster(Admin),
        &["pool", "node", "device", "reason", "validate_only"],
    ),
    act("/orrery.v1.DeviceService/UndrainDevices", Cluster(Admin), &["pool", "node", "device"]),
    read("/orrery.v1.DeviceService/PlanConsolidation", Cluster(Viewer)),
    // Of the rest, what the caller started, and of projects that the caller administers all.
    read("/orrery.v1.GpuUsageService/ListGpuUsage", On(ProjectOrOwn("project"), Viewer)),
    // Without a role over the whole cluster the list is empty: executors serve every tenant.
    read("/orrery.v1.ExecutorService/ListExecutors", SignedIn),
];

/// Methods of others, which the contract does not describe.
const FOREIGN: &[Row] = &[
    read("/grpc.health.v1.Health/Check", Everybody),
    read("/grpc.health.v1.Health/List", Everybody),
    read("/grpc.health.v1.Health/Watch", Everybody),
    read("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", SignedIn),
    read("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", SignedIn),
];

/// Routes by template. Those of methods stand for each of them.
const ROUTES: &[Row] = &[
    // Health, and the files of the UI, which hold nothing of anybody.
    read("/", Everybody),
    read("/ui/{*path}", Everybody),
    read("/livez", Everybody),
    read("/readyz", Everybody),
    // Applications of workspaces: `proxy` lets in who may open them, since their pages cannot show what ours do.
    read("/runtimes/{workspace}", Everybody),
    read("/runtimes/{workspace}/", Everybody),
    read("/runtimes/{workspace}/{*path}", Everybody),
    // A sign-in is open; `browser` leaves its trail.
    read("/auth/session", Everybody),
    // As is one elsewhere: what to offer, the way there, and the way back.
    read("/auth/options", Everybody),
    read("/auth/oidc", Everybody),
    read("/auth/oidc/callback", Everybody),
    read("/grpc.health.v1.Health/{method}", AsMethod),
    read("/grpc.reflection.v1.ServerReflection/{method}", AsMethod),
    read("/grpc.reflection.v1alpha.ServerReflection/{method}", AsMethod),
    read("/api/v1/workspaces", AsMethod),
    read("/api/v1/workspaces/{workspace}/pipelines", AsMethod),
    read("/api/v1/workspaces/{workspace}/pipelines/{pipeline}", AsMethod),
    read("/api/v1/workspaces/{workspace}/runs", AsMethod),
    read("/api/v1/workspaces/{workspace}/triggers", AsMethod),
    read("/api/v1/triggers/{trigger_id}", AsMethod),
    read("/api/v1/triggers/{trigger_id}/preview", AsMethod),
    read("/api/v1/triggers/{trigger_id}/firings", AsMethod),
    read("/api/v1/runs/{run_id}", AsMethod),
    read("/api/v1/runs/{run_id}/blocks", AsMethod),
    read("/api/v1/runs/{run_id}/blocks/{block}/outputs", AsMethod),
    read("/api/v1/runs/{run_id}/blocks/{block}/outputs/{name}/content", AsMethod),
    read("/api/v1/runs/{run_id}/watch", AsMethod),
    read("/api/v1/runs/{run_id}/logs", AsMethod),
    read("/api/v1/workspaces/{workspace}/models", AsMethod),
    read("/api/v1/workspaces/{workspace}/models/{name}", AsMethod),
    read("/api/v1/uploads/{upload_id}", AsMethod),
    read("/api/v1/model-versions/{version_id}/content", AsMethod),
    read("/api/v1/workspaces/{workspace}/logs", AsMethod),
    read("/api/v1/workspaces/{workspace}/monitor", AsMethod),
    read("/api/v1/workspaces/{workspace}/monitor/blocks", AsMethod),
    read("/api/v1/workspaces/{workspace}/notifications", AsMethod),
    read("/api/v1/executors", AsMethod),
    // Mage's addresses. The first two bring a trigger's own token, which `mage` compares, and leave a
    // trail by that; the third is `PublishEvent`.
    read("/api/pipeline_schedules/{id}/pipeline_runs/{token}", Everybody),
    read("/api/pipeline_schedules/{id}/api_trigger", Everybody),
    read("/api/events", AsMethod),
];

/// Whether a method is let act on what is archived, too.
pub(super) fn even_archived(path: &str) -> bool {
    METHODS.iter().any(|row| row.path == path && row.even_archived)
}

/// All rows.
pub(super) fn rows() -> Vec<Row> {
    [METHODS, FOREIGN, ROUTES].concat()
}

/// A method that the contract does not describe.
pub(super) fn is_foreign(path: &str) -> bool {
    FOREIGN.iter().any(|row| row.path == path)
}
