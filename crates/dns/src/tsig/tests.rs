use hickory_proto::op::{MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;

use super::*;

#[test]
fn a_key_file_of_bind_is_read() {
    let text = "# made by tsig-keygen\nkey \"Portico.\" {\n\talgorithm hmac-sha256;\n\tsecret \"AQIDBA==\"; // four bytes\n};\n";
    let key = Key::parse(text).unwrap();

    assert_eq!(key.name.to_ascii(), "portico.");
    assert_eq!(key.secret, [1, 2, 3, 4]);
    assert!(!format!("{key:?}").contains("1, 2"), "{key:?}");
}

#[test]
fn slashes_of_a_secret_are_no_comment() {
    for secret in ["\"//8//w==\"", "//8//w=="] {
        let text = format!(
            "// ours\nkey portico {{ # two in a row\n algorithm hmac-sha256; secret {secret}; }};"
        );
        let quoted = secret.starts_with('"');
        assert_eq!(Key::parse(&text).is_ok(), quoted, "{text}");
    }
}

#[test]
fn other_key_files_say_what_is_wrong() {
    let parse = |text: &str| Key::parse(text).unwrap_err();

    assert_eq!(
        parse("key k { algorithm hmac-md5; secret \"AQ==\"; };"),
        ParseKeyError::Algorithm("hmac-md5".to_owned())
    );
    assert_eq!(
        parse("key k { algorithm hmac-sha256; secret \"!\"; };"),
        ParseKeyError::Secret
    );
    assert_eq!(
        parse("key k { algorithm hmac-sha256; secret \"\"; };"),
        ParseKeyError::Secret
    );
    assert_eq!(
        parse("key k { algorithm hmac-sha256; };"),
        ParseKeyError::Shape
    );
    assert_eq!(
        parse("key k { algorithm hmac-sha256; secret"),
        ParseKeyError::Shape
    );
    assert_eq!(parse(""), ParseKeyError::Shape);
}

#[test]
fn an_answer_signed_with_the_same_key_is_verified() {
    let (request, answer) = exchange(&key(), TIME);

    assert_eq!(key().verify(&answer, &request.mac, TIME + 1), Ok(()));
}

#[test]
fn an_answer_that_was_changed_is_not() {
    let (request, answer) = exchange(&key(), TIME);
    let tsig = wire::last_record(&answer).unwrap();

    for index in 2..tsig {
        let mut changed = answer.clone();
        changed[index] ^= 1;
        assert!(
            key().verify(&changed, &request.mac, TIME).is_err(),
            "byte {index}"
        );
    }
    assert_eq!(
        key().verify(&answer, b"another request", TIME),
        Err(Unverified::BadSignature)
    );
    let other = Key::new(key().name, vec![9; 32]);
    assert_eq!(
        other.verify(&answer, &request.mac, TIME),
        Err(Unverified::BadSignature)
    );
    let renamed = Key::new(Name::from_ascii("other.").unwrap(), key().secret);
    assert_eq!(
        renamed.verify(&answer, &request.mac, TIME),
        Err(Unverified::BadKey)
    );
}

#[test]
fn an_answer_of_another_time_or_without_signature_is_not_believed() {
    let (request, answer) = exchange(&key(), TIME);

    assert_eq!(
        key().verify(&answer, &request.mac, TIME + 301),
        Err(Unverified::BadTime)
    );
    let unsigned = message(MessageType::Response).to_vec().unwrap();
    assert_eq!(
        key().verify(&unsigned, &request.mac, TIME),
        Err(Unverified::Unsigned)
    );
}

#[test]
fn a_truncated_mac_is_not_enough() {
    let (request, answer) = exchange(&key(), TIME);
    let mut message = Message::from_vec(&answer).unwrap();
    let mut record = message.additionals.pop().unwrap();
    if let RData::TSIG(tsig) = &mut record.data {
        tsig.mac.truncate(16);
    }
    message.add_additional(record);

    assert_eq!(
        key().verify(&message.to_vec().unwrap(), &request.mac, TIME),
        Err(Unverified::BadSignature)
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_nor_verify(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        text in ".{0,200}",
    ) {
        prop_assert!(key().verify(&bytes, b"mac", TIME).is_err());
        drop(Key::parse(&text));
    }
}

/// What a server does: the MAC of the request, then the answer.
pub(crate) fn answer_signed(key: &Key, answer: Message, request_mac: &[u8], time: u64) -> Vec<u8> {
    let mut answer = answer;
    let unsigned = answer.to_vec().unwrap();
    let id = answer.metadata.id;
    let tsig = |mac| {
        TSIG::new(
            TsigAlgorithm::HmacSha256,
            time,
            FUDGE,
            mac,
            id,
            None,
            Vec::new(),
        )
    };
    let length = u16::try_from(request_mac.len()).unwrap().to_be_bytes();
    let variables = variables(&tsig(Vec::new()), &key.name).unwrap();
    let mac = key
        .mac(&[&length, request_mac, &unsigned, &variables])
        .unwrap();
    let mac = mac.finalize().into_bytes().to_vec();
    answer.signature = Some(Box::new(make_tsig_record(key.name.clone(), tsig(mac))));
    answer.to_vec().unwrap()
}

pub(crate) fn key() -> Key {
    Key::new(Name::from_ascii("portico.").unwrap(), (0..32).collect())
}

fn exchange(key: &Key, time: u64) -> (Signed, Vec<u8>) {
    let request = key.sign(message(MessageType::Query), time).unwrap();
    let mut answer = message(MessageType::Response);
    answer.metadata.response_code = ResponseCode::NoError;
    let answer = answer_signed(key, answer, &request.mac, time);
    (request, answer)
}

fn message(kind: MessageType) -> Message {
    let mut message = Message::new(0x4242, kind, OpCode::Update);
    message.add_query(Query::query(
        Name::from_ascii("example.").unwrap(),
        RecordType::SOA,
    ));
    message
}

const TIME: u64 = 1_800_000_000;
