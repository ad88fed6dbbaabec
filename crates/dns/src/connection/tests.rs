use proptest::prelude::*;

use super::*;

#[test]
fn a_query_in_single_bytes_is_one_query() {
    let mut connection = Connection::new(at(0));
    for byte in framed(&[&b"first"[..], b"second"]) {
        connection.handle_bytes(&[byte]);
    }

    assert_eq!(connection.poll_query().unwrap(), b"first");
    assert_eq!(connection.poll_query().unwrap(), b"second");
    assert_eq!(connection.poll_query(), None);
    assert_eq!(connection.pending(), 2);
}

#[test]
fn answers_leave_as_they_come_each_with_its_length() {
    let mut connection = asked(&[b"slow", b"fast"]);

    connection.handle_answer(b"to fast", at(1));
    connection.handle_answer(b"to slow", at(2));

    assert_eq!(sent(&mut connection, 3), framed(&[b"to fast", b"to slow"]));
    assert_eq!(connection.idle_since(), Some(at(2)));
}

#[test]
fn a_client_with_enough_under_way_is_not_read_from() {
    let mut connection = Connection::new(at(0));
    connection.handle_bytes(&framed(&[b"q"; MOST_PENDING + 1]));
    while connection.poll_query().is_some() {}

    assert_eq!(connection.pending(), MOST_PENDING);
    assert!(!connection.wants_bytes());
    connection.handle_answer(b"a", at(1));
    // an answer that is not taken keeps its place
    assert_eq!(
        (connection.wants_bytes(), connection.poll_query()),
        (false, None)
    );
    sent(&mut connection, 9);
    assert!(connection.wants_bytes());
    assert_eq!(connection.poll_query().unwrap(), b"q");
}

#[test]
fn bytes_do_not_make_a_connection_less_idle_but_answers_do() {
    let mut connection = asked(&[b"q"]);
    assert_eq!(connection.poll_timeout(), None);
    connection.handle_answer(b"a", at(1));
    sent(&mut connection, 3);
    assert_eq!(
        connection.poll_timeout(),
        Some((at(2) + PATIENCE, Timer::Idle))
    );

    connection.handle_bytes(&[0, 9, 1]);
    assert_eq!(
        connection.poll_timeout(),
        Some((at(2) + PATIENCE, Timer::Idle))
    );
    connection.handle_timeout(at(2) + PATIENCE - Duration::from_nanos(1));
    assert_eq!(connection.poll_event(), None);
    connection.handle_timeout(at(2) + PATIENCE);
    assert_eq!(connection.poll_event(), Some(Closed::Slow));
}

#[test]
fn without_a_query_and_with_answers_to_questions_of_nobody_it_is_idle() {
    let mut connection = Connection::new(at(0));
    connection.handle_bytes(&framed(&[b"an answer"]));
    connection.poll_query().unwrap();
    connection.handle_drop(DropReason::Response);

    connection.handle_timeout(at(0) + PATIENCE);
    assert_eq!(connection.poll_event(), Some(Closed::Idle));
    assert_eq!(connection.poll_timeout(), None);
}

#[test]
fn an_answer_that_is_taken_byte_by_byte_is_not_taken_in_time() {
    let mut connection = asked(&[b"q"]);
    connection.handle_answer(b"answer", at(1));
    for later in 2..5 {
        connection.handle_sent(1, at(later));
    }

    assert_eq!(
        connection.poll_timeout(),
        Some((at(1) + PATIENCE, Timer::Send))
    );
    connection.handle_timeout(at(1) + PATIENCE);
    assert_eq!(connection.poll_event(), Some(Closed::Untaken));
}

#[test]
fn what_was_asked_before_the_end_is_answered() {
    let mut connection = asked(&[b"one"]);
    connection.handle_bytes(&framed(&[b"two"]));
    connection.handle_end().unwrap();

    assert_eq!(connection.poll_query().unwrap(), b"two");
    connection.handle_answer(b"1", at(1));
    connection.handle_answer(b"2", at(1));
    assert_eq!(connection.poll_event(), None);
    assert_eq!(sent(&mut connection, 9), framed(&[b"1", b"2"]));
    assert_eq!(connection.poll_event(), Some(Closed::Client));
}

#[test]
fn an_end_within_the_length_or_the_message_is_malformed() {
    for (cut, len) in [(&[0_u8][..], 1), (&[0, 3], 2), (&[0, 3, 1, 2], 4)] {
        let mut connection = Connection::new(at(0));
        connection.handle_bytes(&framed(&[b"whole"]));
        connection.handle_bytes(cut);

        assert_eq!(connection.handle_end(), Err(Malformed::Cut { len }));
        assert_eq!(connection.handle_end(), Ok(()));
        assert_eq!(connection.poll_query().unwrap(), b"whole");
        connection.handle_answer(b"a", at(1));
        sent(&mut connection, 9);
        assert_eq!(connection.poll_event(), Some(Closed::Client));
    }
}

#[test]
fn after_a_message_without_a_head_nothing_is_read_but_answers_are_sent() {
    let mut connection = asked(&[b"q", b""]);
    connection.handle_bytes(b"\0\x05never");
    connection.handle_drop(DropReason::Malformed(Malformed::Head { len: 0 }));

    assert_eq!(
        (connection.wants_bytes(), connection.poll_query()),
        (false, None)
    );
    assert_eq!(connection.poll_event(), None);
    connection.handle_answer(b"a", at(1));
    assert_eq!(sent(&mut connection, 9), framed(&[b"a"]));
    assert_eq!(connection.poll_event(), Some(Closed::Malformed));
}

#[test]
fn a_broken_connection_is_over_at_once() {
    let mut connection = asked(&[b"q"]);
    connection.handle_broken();
    connection.handle_answer(b"a", at(1));

    assert_eq!(connection.poll_event(), Some(Closed::Broken));
    assert_eq!(
        (connection.poll_transmit(), connection.poll_timeout()),
        (None, None)
    );
}

proptest! {
    #[test]
    fn however_it_is_cut_every_query_is_found_and_every_answer_leaves(
        queries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
        sizes in proptest::collection::vec(1_usize..30, 1..10),
    ) {
        let stream = framed(&queries);
        let mut connection = Connection::new(at(0));
        let mut sizes = sizes.iter().cycle();
        let (mut rest, mut found, mut left) = (stream.as_slice(), Vec::new(), Vec::new());
        while !rest.is_empty() {
            let size = rest.len().min(*sizes.next().unwrap());
            prop_assert!(connection.wants_bytes());
            connection.handle_bytes(&rest[..size]);
            rest = &rest[size..];
            while let Some(query) = connection.poll_query() {
                connection.handle_answer(&query, at(1));
                found.push(query);
                left.extend(sent(&mut connection, *sizes.next().unwrap()));
            }
        }

        prop_assert_eq!(found, queries);
        prop_assert_eq!(left, stream);
        prop_assert_eq!(connection.handle_end(), Ok(()));
        prop_assert_eq!(connection.poll_event(), Some(Closed::Client));
    }

    #[test]
    fn whatever_happens_it_keeps_its_bounds_and_ends(
        steps in proptest::collection::vec((0..8_u8, proptest::collection::vec(any::<u8>(), 0..300)), 0..60),
    ) {
        let mut connection = Connection::new(at(0));
        let mut now = at(0);
        for (step, bytes) in steps {
            now += Duration::from_millis(300);
            match step {
                0 => drop(connection.handle_end()),
                1 => connection.handle_drop(DropReason::Response),
                2 => connection.handle_drop(DropReason::Malformed(Malformed::Body)),
                3 => connection.handle_answer(&bytes, now),
                4 => connection.handle_sent(bytes.len(), now),
                5 => drop(connection.poll_query()),
                _ => connection.handle_bytes(&bytes),
            }
            connection.handle_timeout(now);
            prop_assert!(connection.asked <= MOST_PENDING);
            let overdue = connection.poll_timeout().is_some_and(|(due, _)| due <= now);
            prop_assert!(!overdue);
        }
        while connection.poll_query().is_some() {}
        while connection.asked > 0 {
            connection.handle_drop(DropReason::Response);
        }
        connection.handle_timeout(now + PATIENCE);
        prop_assert!(connection.poll_event().is_some());
    }
}

fn asked(queries: &[&[u8]]) -> Connection {
    let mut connection = Connection::new(at(0));
    connection.handle_bytes(&framed(queries));
    for query in queries {
        assert_eq!(connection.poll_query().unwrap(), *query);
    }
    connection
}

/// Sends all, so many bytes at a time.
fn sent(connection: &mut Connection, most: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = connection.poll_transmit() {
        let bytes = bytes[..bytes.len().min(most)].to_vec();
        connection.handle_sent(bytes.len(), at(2));
        all.extend(bytes);
    }
    all
}

fn framed(messages: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        let message = message.as_ref();
        bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
    }
    bytes
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}
