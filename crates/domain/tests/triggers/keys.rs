//! Logical keys to the letter.

use domain::{id::RunId, trigger::key};
use jiff::Timestamp;
use uuid::Uuid;

const NEVER: &str = "logical keys are stored, and two versions of a scheduler that name one time differently both fire it: \
    this form may never change, not even with a migration, since the version before still runs while it is applied. Give \
    a new kind of firing a form of its own instead";

#[test]
fn keys_are_what_they_have_always_been() {
    let at: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
    let uuid = || Uuid::from_u128(0x0192_1234_5678_7abc_8def_0123_4567_89ab);
    let run = RunId(uuid());
    let golden = [
        ("a nominal time", key::of_time(at), "at:1767225600500"),
        ("a time before 1970", key::of_time(Timestamp::new(-1, 0).unwrap()), "at:-1000"),
        ("@always_on", key::of_always_on(at), "always:1767225600500"),
        ("@once", key::of_once(1), "once"),
        ("@once that was set anew by version 7", key::of_once(7), "once:7"),
        ("a call that is only told of", key::unchosen("key:a", uuid), "request:01921234-5678-7abc-8def-0123456789ab"),
        (
            "an event that is only told of",
            key::unchosen("event-key:a", uuid),
            "event:01921234-5678-7abc-8def-0123456789ab",
        ),
        ("a request with a key", key::of_request("Order 7/ä", uuid), "key:Order 7/ä"),
        ("a request without", key::of_request("", uuid), "request:01921234-5678-7abc-8def-0123456789ab"),
        ("an event with a key", key::of_event("s3:7", uuid), "event-key:s3:7"),
        ("an event without", key::of_event("", uuid), "event:01921234-5678-7abc-8def-0123456789ab"),
        (
            "a run that user code starts",
            key::of_child(run, "load/orders", -1, "load/t:1"),
            "01921234-5678-7abc-8def-0123456789ab/load/orders/-1/load/t:1",
        ),
        ("a run in the place of one that failed", key::of_successor(run), "after:01921234-5678-7abc-8def-0123456789ab"),
        (
            "a run that is made again",
            key::of_repetition(run, "key:a"),
            "again:01921234-5678-7abc-8def-0123456789ab:key:a",
        ),
        ("a refresh of a data product", key::of_product(7), "product:000000000007"),
    ];
    assert_eq!(key::number_of_product("product:000000000007"), Some(7));
    assert!(key::of_product(u64::pow(10, 12) - 1) == key::PRODUCTS.1 && key::of_product(0) == key::PRODUCTS.0);
    for (of, is, was) in golden {
        assert_eq!(is, was, "the key of {of}: {NEVER}");
    }
}

#[test]
fn what_the_database_would_refuse_is_not_a_key() {
    assert!(key::is_storable("key:a") && key::is_storable(&"a".repeat(key::BYTES_MAX)));
    for wrong in [String::new(), "key:a\0b".to_owned(), "a".repeat(key::BYTES_MAX + 1)] {
        assert!(!key::is_storable(&wrong), "{wrong:?}");
    }
}
