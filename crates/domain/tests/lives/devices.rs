//! Lives whose devices do nothing.

use crate::{at, running, signs, spec};
use domain::runtime::{
    Spec,
    activity::Sign,
    life::{Event, Life, Stage},
    reason::Reason,
};

#[test]
fn devices_that_rest_end_it_and_those_that_work_keep_it() {
    // Somebody is there and types: that is no work of its devices.
    let typing = ("kernels", Sign::Active(at(20)));
    let (mut life, rules) = running(Spec { gpu_idle_timeout_s: 600, idle_timeout_s: 7_200, ..spec() });
    let says = |life: &Life, gpu: Sign| signs(life.fence, &[typing.clone(), ("gpu", gpu)]);
    let change = life.advance(says(&life, Sign::Untold("`gpu_exporter` is not set".into())), at(25), &rules);
    assert!(change.stored && change.told.is_empty(), "it is shown and no news");
    assert_eq!(life.notice.hint, "whether it is idle is not known: gpu: `gpu_exporter` is not set");
    assert_eq!(life.due(&rules), Some(at(6_920)), "by the other time-out");
    life.advance(says(&life, Sign::Unknown("no answer".into())), at(26), &rules);
    assert_eq!(life.due(&rules), None, "devices of which nothing is known may work");
    life.advance(says(&life, Sign::Idle(at(30))), at(30), &rules);
    assert_eq!((life.due(&rules), life.notice.hint.as_str()), (Some(at(330)), ""));
    let warned = life.advance(Event::Wake, at(330), &rules);
    assert_eq!((warned.told.len(), life.ending.as_ref().map(|ending| ending.at)), (1, Some(at(630))));
    assert!(life.advance(Event::Wake, at(630), &rules).probe && life.stage == Stage::Running);
    life.advance(says(&life, Sign::Active(at(631))), at(631), &rules);
    assert_eq!((life.stage.clone(), life.ending.clone()), (Stage::Running, None), "the last look found work");
    life.advance(says(&life, Sign::Idle(at(631))), at(700), &rules);
    life.advance(Event::Snoozed(at(2_000), None), at(700), &rules);
    assert_eq!(life.due(&rules), Some(at(1_700)), "warned before");
    life.advance(Event::Wake, at(1_700), &rules);
    assert!(!life.advance(says(&life, Sign::Idle(at(631))), at(1_999), &rules).probe, "somebody keeps it");
    assert!(life.advance(Event::Wake, at(2_000), &rules).probe);
    let change = life.advance(says(&life, Sign::Idle(at(631))), at(2_001), &rules);
    assert_eq!(life.stage, Stage::Stopping(Reason::Idle));
    let evidence = format!("gpu idle since {:.0}", at(631));
    assert!(change.told[0].message.contains(&evidence), "{}", change.told[0].message);

    // Without devices there are none that could rest.
    let mut none = Spec { gpu_idle_timeout_s: 600, ..spec() };
    none.ask.gpus = 0;
    let (mut life, rules) = running(none);
    life.advance(says(&life, Sign::Idle(at(30))), at(30), &rules);
    assert_eq!(life.due(&rules), None);
}
