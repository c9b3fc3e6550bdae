//! What is told to those who wait, and to those who only ask: by the real planner, about what is really held.

use crate::world::{POOL, WAIT, World, imagined};
use domain::{
    id::{HolderId, ProjectId, QueueId, WorkspaceId},
    window::{self, Window},
};
use jiff::{SignedDuration, Timestamp};
use placement::{Code, Plan};
use serde_json::json;
use testkit::wait_for;
use uuid::Uuid;

const DEFAULT: QueueId = QueueId(Uuid::nil());

/// What its row says once it says `hint`: the reason, the message, the hint, and when it may get a place.
async fn told(world: &World, workspace: WorkspaceId, hint: &str) -> (String, String, String, Option<Timestamp>) {
    let what = format!("workspace {workspace} to be told: {hint}");
    wait_for(&what, WAIT, || async {
        let sql = "SELECT reason, message, hint, (extract(epoch FROM expected_at) * 1e6)::bigint FROM runtime
                    WHERE workspace_id = $1";
        let row = world.database.client().await.query_one(sql, &[&workspace.0]).await.unwrap();
        let at = row.get::<_, Option<i64>>(3).map(|at| Timestamp::from_microsecond(at).unwrap());
        let said: String = row.get(2);
        said.contains(hint).then(|| (row.get(0), row.get(1), said, at))
    })
    .await
}

/// The hints for one of a plan, as a person reads them.
fn sentences(plan: &Plan, holder: HolderId) -> (Code, Vec<String>) {
    let refusal = plan.refusals.iter().find(|refusal| refusal.holder == holder).unwrap();
    (refusal.code, refusal.hints.iter().map(|hint| hint.sentence(Timestamp::now())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_turn_it_is_and_when_what_fits_now_and_without_whom() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    // It holds 70 % for 20 minutes.
    let first = world.workspace("first", project, DEFAULT, (1, 700), json!({ "lifetime_s": 1200 })).await;
    scheduler.start(first).await.unwrap();
    world.until(first, "running").await;
    let ends = Timestamp::now() + SignedDuration::from_secs(1200);
    let mut waiting = Vec::new();
    for name in ["one", "two", "three"] {
        let workspace = world.workspace(name, project, DEFAULT, (1, 400), json!({})).await;
        scheduler.start(workspace).await.unwrap();
        waiting.push(workspace);
        // Who came first is first, also where two come in the same instant.
        told(&world, workspace, &format!("position {}", waiting.len())).await;
    }
    let (reason, message, hint, at) = told(&world, waiting[0], "fits now").await;
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("NO_CAPACITY", "every place for 1 × 40 % of GPU with 1 CPU and 1024 MiB is taken")
    );
    let at = at.unwrap();
    assert!(at.duration_since(ends).abs() < SignedDuration::from_secs(60), "{at} is not about {ends}");
    let expected =
        format!("it fits now with 30 % of each GPU; position 1, at {} or so", at.strftime("%Y-%m-%d %H:%M UTC"));
    assert_eq!(hint, expected);
    // Two of them fill the GPU: nobody knows when these end.
    let (.., hint, at) = told(&world, waiting[2], "position 3").await;
    assert!(hint.ends_with("position 3; when is not known") && at.is_none(), "{hint} {at:?}");

    // The same is told to whoever only asks.
    let caller = scheduler.caller();
    let (small, large) = (imagined(project, 200), imagined(project, 500));
    let plan = caller.imagine(vec![large.clone()], &[]).await;
    let said = ["it fits now with 30 % of each GPU", "position 4; when is not known"];
    assert_eq!(sentences(&plan, large.holder), (Code::NoCapacity, said.map(str::to_owned).to_vec()));
    let plan = caller.imagine(vec![small.clone()], &[]).await;
    assert!(plan.assignments.iter().any(|assignment| assignment.holder == small.holder), "{plan:?}");
    // Were the first one gone, two of those who wait would have its place; were these gone as well, whoever asks.
    let gone = [world.holder(first).await];
    let plan = caller.imagine(vec![large.clone()], &gone).await;
    assert_eq!(plan.assignments.len(), 2, "{plan:?}");
    let (code, said) = sentences(&plan, large.holder);
    assert_eq!((code, said[0].as_str()), (Code::NoCapacity, "it fits now with 20 % of each GPU"));
    let gone = [gone[0], world.holder(waiting[0]).await, world.holder(waiting[1]).await];
    let plan = caller.imagine(vec![large.clone()], &gone).await;
    assert!(plan.assignments.iter().any(|assignment| assignment.holder == large.holder), "{plan:?}");
    assert_eq!(plan.assignments.len(), 2, "{plan:?}");
    // Nothing of that is so.
    assert_eq!(world.stage(first).await, "running");
    assert_eq!(world.stage(waiting[0]).await, "starting/queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_tell_the_position_that_the_hint_tells() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    let (much, nothing) = (world.project("much", None).await, world.project("nothing", None).await);
    let [first, early, late] = [("first", much, 700), ("early", much, 400), ("late", nothing, 400)];
    let begin = async |(name, project, milli): (&'static str, ProjectId, u32)| {
        let workspace = world.workspace(name, project, DEFAULT, (1, milli), json!({})).await;
        scheduler.start(workspace).await.unwrap();
        workspace
    };
    let first = begin(first).await;
    world.until(first, "running").await;
    let early = begin(early).await;
    told(&world, early, "position 1;").await;
    // Who came later is of a project that has nothing, and goes first.
    let late = begin(late).await;
    told(&world, late, "position 1;").await;
    told(&world, early, "position 2;").await;
    let listed = async |workspace: WorkspaceId| {
        let db = world.store.client().await.unwrap();
        store::runtime_views::get(&db, workspace).await.unwrap().unwrap().life.unwrap().position
    };
    assert_eq!((listed(first).await, listed(late).await, listed(early).await), (0, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn about_how_long_it_takes() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let first = world.workspace("first", project, DEFAULT, (1, 1000), json!({ "lifetime_s": 1200 })).await;
    scheduler.start(first).await.unwrap();
    world.until(first, "running").await;
    for name in ["one", "two"] {
        let workspace = world.workspace(name, project, DEFAULT, (1, 300), json!({})).await;
        scheduler.start(workspace).await.unwrap();
    }
    let third = imagined(project, 300);
    let plan = scheduler.caller().imagine(vec![third.clone()], &[]).await;
    let said = vec!["position 3, about 20 minutes".to_owned()];
    assert_eq!(sentences(&plan, third.holder), (Code::NoCapacity, said));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_window_opens_and_where_it_fits_meanwhile() {
    let (world, scheduler, _executor) = World::simple(&[1]).await;
    let project = world.project("p", None).await;
    let office = world.queue("office", POOL, 0, false).await;
    world.open(project, office, None).await;
    // Open on one day of the week, which is none of the next two.
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let today = Timestamp::now().to_zoned(zone).weekday().to_monday_one_offset();
    let day = (today + 2) % 7 + 1;
    let window = "INSERT INTO plan_window (id, plan_id, time_zone, weekdays, start_minute, end_minute)
                  SELECT $1, id, 'Europe/Berlin', ARRAY[$2::smallint], 480, 1080 FROM plan";
    world.database.client().await.execute(window, &[&Uuid::now_v7(), &i16::from(day)]).await.unwrap();
    let window = Window::weekly("Europe/Berlin", &[day.unsigned_abs()], 480, 1080).unwrap();
    let access = window::access(&[window], Timestamp::now());
    let window::Access::Closed { opens_at: Some(opens) } = &access else { panic!("it is open: {access:?}") };
    let opens = opens.strftime("%A %Y-%m-%d 08:00 (%Z)").to_string();

    let workspace = world.workspace("w", project, office, (1, 500), json!({})).await;
    scheduler.start(workspace).await.unwrap();
    let (reason, message, hint, at) = told(&world, workspace, "the window opens").await;
    assert_eq!((reason.as_str(), at), ("WINDOW_CLOSED", None));
    assert_eq!(message, format!("the plan's window is closed; it opens on {opens}"));
    assert_eq!(hint, format!("the window opens on {opens}; it fits now in queue default"));
    let asked = placement::Request { queue: office, access, alternatives: vec![DEFAULT], ..imagined(project, 500) };
    let plan = scheduler.caller().imagine(vec![asked.clone()], &[]).await;
    let said = vec![format!("the window opens on {opens}"), "it fits now in queue default".to_owned()];
    assert_eq!(sentences(&plan, asked.holder), (Code::WindowClosed, said));
}
