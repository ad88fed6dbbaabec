use std::net::IpAddr;

use tokio::net::{TcpSocket, UdpSocket};
use tokio::process::Command;
use tokio::time::timeout;

use super::*;
use crate::admission::{MOST, MOST_OF_SOURCE};
use crate::connection::PATIENCE;
use crate::run::tests::{Running, dig};
use crate::wire::{self, HEAD, Head};
use crate::zone::tests::{addr_of, home_with, nsp};

#[tokio::test]
async fn answers_leave_as_they_come_and_those_of_resolvers_byte_for_byte() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let home = home_with(&["camera"]);
    let mut running = Running::start(&home, vec![upstream.local_addr().unwrap()], None);
    let mut client = Client::connect(&running).await;

    let queries = [
        query(1, &["one", "test"]),
        query(2, &["two", "test"]),
        camera(3),
    ];
    client.send(&framed(&queries)).await;
    assert_eq!(client.answer().await, (3, 0, 1));

    let first = heard(&upstream).await;
    let second = heard(&upstream).await;
    for (bytes, from) in [second, first] {
        let asked = queries
            .iter()
            .find(|query| query[HEAD..] == bytes[HEAD..])
            .unwrap();
        let answer = unusual(&bytes);
        upstream.send_to(&answer, from).await.unwrap();
        let relayed = client.message().await.unwrap();
        assert_eq!(relayed[2..], answer[2..]);
        assert_eq!(relayed[..2], asked[..2]);
    }
    client.end().await;
    running.wait_for(Counter::TcpByClient, 1).await;
    assert_eq!(running.room.counters.value(Counter::DroppedUnsent), 0);
}

#[tokio::test]
async fn a_client_that_ends_its_side_still_gets_every_answer() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let home = home_with(&["camera"]);
    let mut running = Running::start(&home, vec![upstream.local_addr().unwrap()], None);
    let mut client = Client::connect(&running).await;

    let queries = [query(1, &["one", "test"]), camera(2)];
    client.send(&framed(&queries)).await;
    client.0.shutdown().await.unwrap();

    assert_eq!(client.answer().await, (2, 0, 1));
    let (bytes, from) = heard(&upstream).await;
    upstream.send_to(&unusual(&bytes), from).await.unwrap();
    assert_eq!(client.answer().await, (1, 0, 1));
    assert_eq!(client.message().await, None);
    running.wait_for(Counter::TcpByClient, 1).await;
}

#[tokio::test]
async fn a_query_in_single_bytes_is_answered() {
    let running = Running::start(&home_with(&["camera"]), Vec::new(), None);
    let mut client = Client::connect(&running).await;
    client.0.set_nodelay(true).unwrap();
    for byte in framed(&[camera(1), camera(2)]) {
        client.send(&[byte]).await;
        tokio::task::yield_now().await;
    }

    assert_eq!(client.answer().await, (1, 0, 1));
    assert_eq!(client.answer().await, (2, 0, 1));
}

#[tokio::test]
async fn what_cannot_be_decoded_is_counted_and_answered_and_stops_nothing() {
    let mut running = Running::start(&home_with(&["camera"]), Vec::new(), None);
    let mut client = Client::connect(&running).await;
    let no_question = camera(1)[..HEAD].to_vec();
    let mut two_questions = camera(2);
    two_questions[5] = 2;
    let mut bad_record = camera(3);
    bad_record[11] = 1;
    bad_record.extend(vec![0xff; 65_535 - 37]);
    let mut response = camera(4);
    response[2] |= 0x80;
    assert_eq!(bad_record.len(), 65_535);

    client
        .send(&framed(&[no_question, two_questions, bad_record, response]))
        .await;
    for id in 1..4 {
        assert_eq!(client.answer().await, (id, 1, 0));
    }
    client.send(&framed(&[camera(5)])).await;
    assert_eq!(client.answer().await, (5, 0, 1));
    for counter in [
        Counter::MalformedQuestion,
        Counter::MalformedCounts,
        Counter::MalformedBody,
        Counter::DroppedResponse,
    ] {
        assert_eq!(running.room.counters.value(counter), 1, "{counter:?}");
    }

    for (index, headless) in [Vec::new(), vec![7; 11]].into_iter().enumerate() {
        let mut client = Client::connect(&running).await;
        client.send(&framed(&[camera(6), headless])).await;
        assert_eq!(client.answer().await, (6, 0, 1));
        assert_eq!(client.message().await, None);
        let nth = u64::try_from(index).unwrap() + 1;
        running.wait_for(Counter::TcpMalformed, nth).await;
        assert_eq!(running.room.counters.value(Counter::MalformedHead), nth);
    }
}

#[tokio::test]
async fn the_longest_message_is_a_query_like_another() {
    let running = Running::start(&home_with(&["camera"]), Vec::new(), None);
    let mut client = Client::connect(&running).await;
    let mut padded = camera(1);
    padded[11] = 1;
    let rest = u16::try_from(65_535 - padded.len() - 11).unwrap();
    padded.extend(b"\0\0\x29\x04\xd0\0\0\0\0");
    padded.extend(rest.to_be_bytes());
    padded.extend(b"\0\x0c");
    padded.extend((rest - 4).to_be_bytes());
    padded.resize(65_535, 0);

    client.send(&framed(&[padded])).await;

    let (id, code, answers) = client.answer().await;
    assert_eq!((id, code, answers), (1, 0, 1));
}

#[tokio::test]
async fn an_end_or_a_reset_within_a_message_is_counted_and_ends_only_itself() {
    let mut running = Running::start(&home_with(&["camera"]), Vec::new(), None);
    let mut other = Client::connect(&running).await;
    for (cut, nth) in [(&[0_u8][..], 1), (&[0, 36, 1, 2], 2), (&[0xff, 0xff], 3)] {
        let mut client = Client::connect(&running).await;
        client.send(cut).await;
        client.0.shutdown().await.unwrap();
        assert_eq!(client.message().await, None);
        running.wait_for(Counter::MalformedCut, nth).await;
    }
    let mut client = Client::connect(&running).await;
    client.send(&framed(&[camera(1)])[..20]).await;
    client.0.set_zero_linger().unwrap();
    drop(client);
    running.wait_for(Counter::TcpBroken, 1).await;

    other.send(&framed(&[camera(7)])).await;
    assert_eq!(other.answer().await, (7, 0, 1));
}

#[tokio::test]
async fn a_reset_ends_what_is_asked_of_resolvers() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let home = home_with(&[]);
    let mut running = Running::start(&home, vec![silent.local_addr().unwrap()], None);
    let mut client = Client::connect(&running).await;
    client.send(&framed(&[query(1, &["one", "test"])])).await;
    heard(&silent).await;
    assert_eq!(running.room.forwarder.lock().unwrap().in_flight(), 1);

    client.0.set_zero_linger().unwrap();
    drop(client);

    running.wait_for(Counter::DroppedUnsent, 1).await;
    while running.room.forwarder.lock().unwrap().in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.room.counters.value(Counter::ForwardFailed), 0);
}

#[tokio::test]
async fn a_source_has_no_more_than_its_share() {
    let mut running = Running::start(&home_with(&["camera"]), Vec::new(), None);
    let mut clients = Vec::new();
    for _ in 0..MOST_OF_SOURCE {
        clients.push(Client::connect(&running).await);
    }

    let mut refused = Client::connect(&running).await;
    assert_eq!(refused.message().await, None);
    assert_eq!(running.room.counters.value(Counter::TcpSource), 1);
    for client in &mut clients {
        client.send(&framed(&[camera(1)])).await;
        assert_eq!(client.answer().await, (1, 0, 1));
    }
    clients.truncate(1);
    let closed = u64::try_from(MOST_OF_SOURCE).unwrap() - 1;
    running.wait_for(Counter::TcpByClient, closed).await;
    let mut next = Client::connect(&running).await;
    next.send(&framed(&[camera(2)])).await;
    assert_eq!(next.answer().await, (2, 0, 1));
}

#[tokio::test]
async fn when_all_places_are_taken_the_longest_idle_gives_way() {
    let mut running = Running::start(&home_with(&["camera"]), Vec::new(), None);
    let mut clients = Vec::new();
    for index in 0..MOST {
        let source = u8::try_from(index / MOST_OF_SOURCE).unwrap();
        clients.push(Client::connect_from([127, 0, 1, source], &running).await);
    }
    let all = u64::try_from(MOST).unwrap();
    running.wait_for(Counter::TcpAdmitted, all).await;
    clients[0].send(&framed(&[camera(1)])).await;
    assert_eq!(clients[0].answer().await, (1, 0, 1));

    let mut late = Client::connect_from([127, 0, 2, 1], &running).await;
    late.send(&framed(&[camera(2)])).await;
    assert_eq!(late.answer().await, (2, 0, 1));

    assert_eq!(clients[1].message().await, None);
    for index in [0, 2, MOST - 1] {
        clients[index].send(&framed(&[camera(3)])).await;
        assert_eq!(clients[index].answer().await, (3, 0, 1), "{index}");
    }
    assert_eq!(running.room.counters.value(Counter::TcpEvicted), 1);
    let strangers = running.at(View::Public, true);
    let aaaa = dig(strangers, true, "camera.home.example", "AAAA", &[]).await;
    assert!(aaaa.contains("ANSWER: 1"), "{aaaa}");
    assert_eq!(running.room.counters.value(Counter::TcpEvicted), 1);
}

#[tokio::test]
async fn nobody_holds_a_connection_by_silence_dribbling_or_not_reading() {
    let mut running = Running::start(&home_with(&["camera"]), Vec::new(), None);
    let clock = running.room.clock;
    let begun = clock.mono();
    let mut idle = Client::connect(&running).await;
    let mut dribbler = Client::connect(&running).await;
    let mut deaf = Client::connect(&running).await;
    let patience = PATIENCE..PATIENCE * 3;

    let silent = async {
        assert_eq!(idle.message().await, None);
        assert!(patience.contains(&(clock.mono() - begun)));
    };
    let dribbling = async {
        let slow = framed(&[camera(1)]);
        for byte in slow.iter().cycle().take(30) {
            if dribbler.0.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(patience.contains(&(clock.mono() - begun)));
        assert!(dribbler.0.read_u8().await.is_err());
    };
    let not_reading = async {
        let many = framed(&vec![camera(1); 100]);
        while deaf.0.write_all(&many).await.is_ok() {}
    };
    let all = async { tokio::join!(silent, dribbling, not_reading) };
    timeout(PATIENCE * 6, all).await.unwrap();

    for counter in [Counter::TcpIdle, Counter::TcpSlow, Counter::TcpUntaken] {
        running.wait_for(counter, 1).await;
    }
    assert!(running.room.counters.value(Counter::DroppedUnsent) > 0);
}

#[tokio::test]
async fn dig_keeps_a_connection_and_mdig_pipelines() {
    let home = home_with(&["camera", "printer"]);
    let running = Running::start(&home, Vec::new(), None);
    let at = running.at(View::Lan, true);
    let more = [
        "+keepopen",
        "+short",
        "camera.home.example",
        "A",
        "printer.home.example",
        "A",
    ];
    let kept = dig(at, true, "camera.home.example", "AAAA", &more).await;
    let lines: Vec<_> = kept.lines().collect();
    let [camera, printer] = ["camera", "printer"].map(|name| addr_of(&home, name));
    let embedded = nsp(&home).embed(camera).to_string();
    assert_eq!(lines, [camera.to_string(), printer.to_string(), embedded]);
    assert_eq!(running.room.counters.value(Counter::TcpAdmitted), 1);

    let port = at.port().to_string();
    let mut command = Command::new("mdig");
    command.args([&format!("@{}", at.ip()), "-p", &port, "+tcp", "+short"]);
    for _ in 0..50 {
        command.args(["camera.home.example", "printer.home.example"]);
    }
    let output = timeout(Duration::from_secs(60), command.output()).await;
    let text = String::from_utf8(output.unwrap().unwrap().stdout).unwrap();
    let answers = |addr: String| text.lines().filter(|line| *line == addr).count();
    assert_eq!(answers(camera.to_string()), 50, "{text}");
    assert_eq!(answers(printer.to_string()), 50, "{text}");
    assert_eq!(running.room.counters.value(Counter::TcpAdmitted), 2);
}

/// The limit is one of the whole process, so the test runs itself again in one of its own.
#[tokio::test]
async fn too_many_open_files_are_counted_and_end_nothing() {
    const INSIDE: &str = "PORTICO_TEST_FEW_FILES";
    if std::env::var_os(INSIDE).is_none() {
        let name = "run::tcp::tests::too_many_open_files_are_counted_and_end_nothing";
        let status = Command::new("sh")
            .args(["-c", "ulimit -n 60; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .kill_on_drop(true)
            .status();
        let status = timeout(Duration::from_secs(170), status).await;
        return assert!(status.unwrap().unwrap().success());
    }
    let mut running = Running::start(&home_with(&["camera"]), Vec::new(), None);
    let at = running.at(View::Lan, true);
    let mut taken = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect(at) {
        taken.push(stream);
    }
    assert!(taken.len() > 20);
    running.wait_for(Counter::TcpAcceptFailed, 3).await;
    drop(taken);

    let closed = u64::try_from(MOST_OF_SOURCE).unwrap();
    running.wait_for(Counter::TcpByClient, closed).await;
    let mut client = Client::connect(&running).await;
    client.send(&framed(&[camera(1)])).await;
    assert_eq!(client.answer().await, (1, 0, 1));
}

struct Client(TcpStream);

impl Client {
    async fn connect(running: &Running) -> Self {
        let stream = TcpStream::connect(running.at(View::Lan, true)).await;
        Self(stream.unwrap())
    }

    async fn connect_from(source: [u8; 4], running: &Running) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(IpAddr::from(source), 0))
            .unwrap();
        let stream = socket.connect(running.at(View::Lan, true)).await;
        Self(stream.unwrap())
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Returns the next message, `None` at the end.
    async fn message(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let length = match self.0.read_u16().await {
                Ok(length) => length,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                    return None;
                }
            };
            let mut bytes = vec![0; usize::from(length)];
            self.0.read_exact(&mut bytes).await.unwrap();
            Some(bytes)
        };
        timeout(Duration::from_secs(60), read).await.unwrap()
    }

    /// Returns the id, the code and the number of answers of the next message.
    async fn answer(&mut self) -> (u16, u16, u16) {
        let bytes = self.message().await.unwrap();
        let head = Head::parse(&bytes).unwrap();
        assert!(head.is_response() && !head.is_truncated());
        (head.id, head.rcode(), head.counts[1])
    }

    async fn end(mut self) {
        self.0.shutdown().await.unwrap();
        assert_eq!(self.message().await, None);
    }
}

async fn heard(upstream: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buf = vec![0; 4096];
    let received = timeout(Duration::from_secs(60), upstream.recv_from(&mut buf)).await;
    let (len, from) = received.unwrap().unwrap();
    buf.truncate(len);
    (buf, from)
}

/// An answer that no encoder of ours would make: a name written out in another case, a type that
/// nobody knows, a flag that is reserved, and something after the last record.
fn unusual(query: &[u8]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    (bytes[2], bytes[3]) = (0x81, 0xc0);
    bytes[7] = 1;
    bytes.extend(wire::question(query).unwrap()[..9].to_ascii_uppercase());
    bytes.extend(b"\0\xfe\xdc\0\x01\0\0\0\x05\0\x03abcrest");
    bytes
}

fn camera(id: u16) -> Vec<u8> {
    query(id, &["camera", "home", "example"])
}

fn query(id: u16, labels: &[&str]) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend(b"\x01\0\0\x01\0\0\0\0\0\0");
    for label in labels {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.extend(b"\0\0\x1c\0\x01");
    bytes
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
    }
    bytes
}
