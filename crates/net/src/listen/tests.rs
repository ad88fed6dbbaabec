use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::Command;

use super::*;
use crate::udp::tests::in_namespace;

#[test]
fn the_environment_is_read_strictly() {
    assert!(matches!(promised(None, None, 7), Ok(None)));
    assert!(matches!(promised(Some("2"), None, 7), Ok(Some(2))));
    assert!(matches!(promised(Some("2"), Some("7"), 7), Ok(Some(2))));
    assert!(matches!(promised(Some("2"), Some("8"), 7), Ok(None)));
    for wrong in ["", "x", "-1", "65", "99999999999"] {
        assert!(
            matches!(promised(Some(wrong), None, 7), Err(InheritError::Count(_))),
            "{wrong}"
        );
    }
}

#[test]
fn what_is_no_listener_is_refused_and_left_alone() {
    let file = fs::File::open("/dev/null").unwrap();

    let error = adopt(file.as_raw_fd()).unwrap_err();

    assert!(matches!(error, InheritError::NoListener(_)), "{error}");
    file.metadata().unwrap();
    assert!(matches!(adopt(9_999), Err(InheritError::NotOpen(9_999))));
}

/// Runs this test binary once more, with a listener as descriptor 3.
#[test]
fn a_listener_is_handed_to_a_child() {
    in_namespace(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        // The shell turns its input into descriptor 3, as a supervisor would. Our own copy ends
        // with the command, so a child that dies resets the connection.
        let mut child = Command::new("sh")
            .arg("-c")
            .arg("exec \"$0\" --exact listen::tests::child --ignored --nocapture 3<&0 </dev/null")
            .arg(std::env::current_exe().unwrap())
            .env("LISTEN_FDS", "1")
            .env_remove("LISTEN_PID")
            .stdin(OwnedFd::from(listener))
            .spawn()
            .unwrap();

        let mut said = String::new();
        std::net::TcpStream::connect(addr)
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();

        assert_eq!(said, "hello from the child");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
#[ignore = "the child of a_listener_is_handed_to_a_child"]
fn child() {
    let listeners = inherited().unwrap();
    let [Listener::Tcp(listener)] = listeners.as_slice() else {
        panic!("expected one TCP listener, got {listeners:?}");
    };
    assert!(inherited().unwrap().is_empty());
    listener.set_nonblocking(false).unwrap();
    listener
        .accept()
        .unwrap()
        .0
        .write_all(b"hello from the child")
        .unwrap();
}

#[test]
fn a_dead_unix_socket_is_replaced_and_a_living_one_is_not() {
    let folder = std::env::temp_dir().join(format!("portico-net-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("api.sock");

    drop(unix(&path, 0o660).unwrap());
    let living = unix(&path, 0o660).unwrap();
    let error = unix(&path, 0o660).unwrap_err();

    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    assert_eq!(
        error.to_string(),
        format!("cannot bind Unix socket {}", path.display())
    );
    drop(living);
    fs::remove_dir_all(folder).unwrap();
}
