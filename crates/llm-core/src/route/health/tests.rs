//! How failures, probes and words of its own change what a deployment is thought to be.
use super::*;
use crate::error::DEADLINE;

#[test]
fn one_that_fails_again_and_again_rests_and_one_success_heals_it() {
    let health = Health::default();
    let error = Error::new(Kind::Unavailable, "gone");
    (0..MOST_FAILURES - 1).for_each(|_| health.failed(&error));
    assert_eq!((health.rest(), health.status()), (None, Status::Failing("gone".into())));
    health.failed(&error);
    assert!(health.rest().is_some());
    health.succeeded();
    assert_eq!((health.rest(), health.status()), (None, Status::Ready));
}

#[test]
fn a_list_of_models_heals_one_that_was_away_but_not_one_whose_answers_fail() {
    let failed = |kind| {
        let health = Health::default();
        (0..MOST_FAILURES).for_each(|_| health.failed(&Error::new(kind, "no")));
        health.learned(vec![ModelInfo::default()]);
        (health.rest().is_some(), health.status().name(), health.models().len())
    };
    assert_eq!(failed(Kind::Unavailable), (false, "ready", 1));
    assert_eq!(failed(Kind::Upstream), (true, "error", 1));
    let health = Health::default();
    (0..MOST_FAILURES).for_each(|_| health.unlisted(&Error::new(Kind::Timeout, "it did not list its models")));
    assert!(health.rest().is_some());
    health.learned(Vec::new());
    assert_eq!((health.rest(), health.status()), (None, Status::Ready), "what a probe broke a probe heals");
    let health = Health::default();
    for _ in 0..MOST_FAILURES {
        health.failed(&Error::new(Kind::Upstream, "no"));
        (0..3).for_each(|_| health.learned(Vec::new())); // probes between each
    }
    assert!(health.rest().is_some(), "probes between its failures do not hide them");
    health.succeeded();
    assert_eq!((health.rest(), health.status()), (None, Status::Ready));
}

#[tokio::test(start_paused = true)]
async fn answers_that_break_together_are_one_failure_and_each_further_rest_is_longer() {
    let health = Health::default();
    let gone = Error::new(Kind::Upstream, "gone");
    let break_down = || (0..16).for_each(|_| health.failed(&gone));
    for seconds in [2, 4, 8, 16, 30, 30] {
        break_down();
        assert_eq!(health.rest(), Some(Duration::from_secs(seconds)));
        tokio::time::advance(Duration::from_secs(seconds)).await;
        assert_eq!(health.rest(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_rest_one_caller_tries_it_and_a_trial_that_shows_nothing_is_repeated() {
    let health = Health::default();
    let gone = Error::new(Kind::Upstream, "gone");
    let is_open = || matches!(health.door(""), Door::Open);
    (0..MOST_FAILURES).for_each(|_| health.failed(&gone));
    assert!(!health.begins_trial(), "it rests");
    tokio::time::advance(FIRST_REST).await;
    assert!(matches!(health.door(""), Door::Trial) && health.begins_trial());
    assert!(matches!(health.door(""), Door::Resting) && !health.begins_trial());
    health.ends_trial(false); // who tried has left
    assert!(health.begins_trial());
    tokio::time::advance(LONGEST_TRIAL).await;
    assert!(health.begins_trial(), "it takes too long");
    health.ends_trial(true);
    assert!(is_open() && !health.begins_trial(), "its answer has begun");
    health.failed(&gone); // and broke off
    assert!(matches!(health.door(""), Door::Resting) && health.rest() == Some(FIRST_REST * 2));
    tokio::time::advance(FIRST_REST * 2).await;
    assert!(health.begins_trial());
    health.failed(&gone);
    health.ends_trial(false);
    assert!(health.rest() == Some(FIRST_REST * 4));
    health.succeeded();
    assert!(is_open());
}

#[tokio::test(start_paused = true)]
async fn whoever_says_when_to_come_back_is_taken_at_his_word_for_a_while() {
    let health = Health::default();
    let busy = |seconds| Error::new(Kind::RateLimited, "slow down").retry_after(Duration::from_secs(seconds));
    health.failed(&busy(3));
    tokio::time::advance(Duration::from_secs(1)).await;
    let Door::Busy(error) = health.door("") else { panic!("{:?}", health.door("")) };
    assert_eq!((error.message(), error.get_retry_after()), ("slow down", Some(Duration::from_secs(2))));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(matches!(health.door(""), Door::Open) && !health.is_busy());
    health.failed(&busy(60));
    health.learned(vec![ModelInfo::default()]); // neither a list nor an answer that had begun takes it back
    health.succeeded();
    assert!(health.is_busy());
    health.failed_at(&busy(86_400), "big");
    assert!(matches!(health.door("big"), Door::Busy(_)) && matches!(health.door("small"), Door::Open));
    health.failed(&busy(86_400));
    tokio::time::advance(LONGEST_WORD).await;
    assert!(!health.is_busy());
}

#[test]
fn a_wrong_certificate_is_no_start_and_a_busy_door_no_proof() {
    let failed = |error: Error| {
        let health = Health::new(&Config::default(), true);
        health.is_watched();
        health.unlisted(&error);
        (health.status().name(), health.reason())
    };
    assert_eq!(failed(Error::new(Kind::Unavailable, "refused")), ("loading", Some("refused".into())));
    assert_eq!(failed(Error::new(Kind::Overloaded, "503")).0, "loading");
    assert_eq!(failed(Error::new(Kind::Unavailable, "x").code(UNTRUSTED)), ("error", Some("x".into())));
}

#[tokio::test(start_paused = true)]
async fn one_that_says_that_it_ends_is_left_alone_at_once_and_its_list_heals_nothing() {
    let health = Health::default();
    health.succeeded();
    health.failed(&Error::new(Kind::Unavailable, "after shutdown").code(DRAINING));
    health.learned(vec![ModelInfo::default()]); // it lists its models to the end
    assert_eq!((health.status(), health.rest()), (Status::Draining, Some(FIRST_REST)));
    tokio::time::advance(FIRST_REST).await;
    assert!(matches!(health.door(""), Door::Trial) && health.begins_trial());
    health.finished(); // what it had begun before
    assert_eq!(health.status(), Status::Draining);
    health.ends_trial(false);
    health.failed(&Error::new(Kind::Unavailable, "refused"));
    assert_eq!(health.status(), Status::Failing("refused".into()));
    health.learned(vec![ModelInfo::default()]);
    assert_eq!((health.status(), health.rest()), (Status::Ready, None), "another has taken its place");
}

#[test]
fn the_callers_mistakes_and_deadlines_do_not_count() {
    let health = Health::default();
    (0..10).for_each(|_| health.failed(&Error::invalid("no")));
    (0..10).for_each(|_| health.failed(&Error::new(Kind::Timeout, "late").code(DEADLINE)));
    assert_eq!(health.status(), Status::Unknown);
}

#[test]
fn one_that_loads_by_its_own_word_and_needs_no_proof_is_healed_by_its_list() {
    let health = Health::default();
    health.is_watched();
    health.failed(&Error::new(Kind::Loading, "it is being loaded"));
    assert!(health.status() == Status::Loading(None) && health.is_out());
    health.learned(vec![ModelInfo::default()]);
    assert!(health.status() == Status::Ready && !health.is_out());
    // And where a list alone says that it must be mended, an answer may show that it need not.
    health.refused(&Error::new(Kind::NotFound, "it does not list the model"));
    assert!(health.status().name() == "error" && !health.is_out());
}

#[tokio::test(start_paused = true)]
async fn a_start_is_tried_as_soon_as_it_lists_itself_and_a_model_that_goes_away_is_noticed() {
    let health = Health::new(&Config::default(), true);
    health.is_watched();
    (0..9).for_each(|_| health.unlisted(&Error::new(Kind::Unavailable, "refused")));
    assert!(health.rest().is_some() && !health.wants_canary() && health.is_out());
    health.learned(vec![ModelInfo::default()]);
    assert!(health.rest().is_none() && health.wants_canary(), "nobody waits for the end of its rest");
    assert!(matches!(health.door(""), Door::Trial), "of callers one tries");
    health.succeeded();
    assert!(!health.wants_canary() && !health.is_out());
    health.failed(&Error::new(Kind::NotFound, "gone").code("model_not_found"));
    assert!(health.wants_canary());
    health.refused(&Error::new(Kind::NotFound, "gone"));
    assert!(health.is_out());
}
