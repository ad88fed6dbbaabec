//! What a person decides: approving, denying and forgetting, and the policy of a device.

use super::*;

#[tokio::test]
async fn person_approves_denies_and_forgets() {
    let home = Home::start().await;
    home.join("camera").await;
    let client = home.client();
    client.set_prefix(&delegation()).await.unwrap();
    assert_eq!(home.ask(22).await, Outcome::Refused(Refusal::Waiting));
    assert_eq!(home.ask(25).await, Outcome::Refused(Refusal::Waiting));

    let listed = client.mappings().await.unwrap();
    let states: Vec<_> = listed.iter().map(|it| it.state.as_str()).collect();
    assert_eq!(states, ["waiting", "waiting"]);
    assert_eq!(client.status().await.unwrap().waiting, 2);
    assert_eq!(client.host("camera").await.unwrap().waiting, listed);
    let hour = Approval { for_s: Some(3600) };
    let opened = client.approve(listed[0].id, hour).await.unwrap();
    assert_eq!(
        (opened.id, opened.state.as_str(), opened.external_port),
        (listed[0].id, "open", 22)
    );
    assert!(opened.expires_in_s.is_some_and(|left| left <= 3600));
    client.deny(listed[1].id).await.unwrap();
    let denied = Outcome::Refused(Refusal::PortDenied);
    assert_eq!(home.ask(25).await, denied);

    let decided = client.permissions().await.unwrap();
    let decided: Vec<_> = decided
        .iter()
        .map(|it| (it.internal_port, it.allow, it.expires_in_s.is_some()))
        .collect();
    assert_eq!(decided, [(22, true, true), (25, false, false)]);
    client.forget_permission("camera", "tcp", 22).await.unwrap();
    client.forget_permission(CAMERA, "tcp", 25).await.unwrap();
    assert_eq!(client.mappings().await.unwrap(), [], "nothing permits it");
    assert_eq!(home.ask(25).await, Outcome::Refused(Refusal::Waiting));
    let again = client.forget_permission("camera", "tcp", 25).await;
    problem(again, 404, "not-found");
    problem(
        client.approve(99, Approval::default()).await,
        404,
        "not-found",
    );
    problem(client.deny(99).await, 404, "not-found");
    let no_time = Approval { for_s: Some(0) };
    problem(client.approve(1, no_time).await, 422, "body-invalid");
    let actions = client.audit(100).await.unwrap();
    for action in ["mapping.requested", "mapping.approved", "mapping.denied"] {
        assert!(actions.iter().any(|it| it.action == action), "{action}");
    }
}

#[tokio::test]
async fn decisions_are_listed_page_by_page() {
    let home = Home::start().await;
    home.join("camera").await;
    let client = home.client();
    client.set_prefix(&delegation()).await.unwrap();
    for port in [22, 25, 110] {
        assert_eq!(home.ask(port).await, Outcome::Refused(Refusal::Waiting));
    }
    for waiting in client.mappings().await.unwrap() {
        client.deny(waiting.id).await.unwrap();
    }
    let get = async |query: &str| {
        let host = format!("Host: {}", home.tcp);
        let head = format!("GET /api/v1/permissions?{query} HTTP/1.1\r\n{host}\r\n");
        let answer = home.http(&head).await;
        let ports = answer.split("\"internal_port\":").skip(1);
        let ports: Vec<_> = ports
            .map(|rest| rest.split(',').next().unwrap().to_owned())
            .collect();
        (ports.join(" "), answer)
    };

    assert_eq!(get("").await.0, "22 25 110");
    let (first, answer) = get("limit=2&host=camera").await;
    assert_eq!(first, "22 25");
    let cursor = answer.split("\"next\":\"").nth(1).unwrap();
    let cursor = cursor.split('"').next().unwrap();
    assert_eq!(cursor, format!("{CAMERA}/tcp/25"));
    let (rest, answer) = get(&format!("limit=2&cursor={cursor}")).await;
    assert_eq!(rest, "110");
    assert!(!answer.contains("\"next\":\""), "{answer}");
    for wrong in ["25", "x/tcp/25", "02:00:00:00:00:01/sctp/25"] {
        let answer = get(&format!("cursor={wrong}")).await.1;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(client.permissions().await.unwrap().len(), 3);
}

#[tokio::test]
async fn list_shows_what_is_open_what_waits_or_both_by_number() {
    let home = Home::start().await;
    home.join("camera").await;
    home.client().set_prefix(&delegation()).await.unwrap();
    for port in [8080, 22, 8081, 25] {
        home.ask(port).await;
    }
    let get = async |query: &str| {
        let host = format!("Host: {}", home.tcp);
        let head = format!("GET /api/v1/mappings?{query} HTTP/1.1\r\n{host}\r\n");
        let answer = home.http(&head).await;
        let ports = answer.split("\"external_port\":").skip(1);
        let ports: Vec<_> = ports
            .map(|rest| rest.split(',').next().unwrap().to_owned())
            .collect();
        (ports.join(" "), answer)
    };

    assert_eq!(get("").await.0, "8080 22 8081 25");
    assert_eq!(get("state=open").await.0, "8080 8081");
    assert_eq!(get("state=waiting").await.0, "22 25");
    let (first, answer) = get("limit=2").await;
    assert_eq!(first, "8080 22");
    let cursor = answer.split("\"next\":\"").nth(1).unwrap();
    let cursor = cursor.split('"').next().unwrap();
    assert_eq!(get(&format!("limit=2&cursor={cursor}")).await.0, "8081 25");
    assert!(get("state=x").await.1.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn person_says_what_a_device_may_open() {
    let home = Home::start().await;
    home.join("camera").await;
    let client = home.client();
    client.set_prefix(&delegation()).await.unwrap();
    let policy = |access: &str| PolicyPatch {
        access: access.to_owned(),
        ports: None,
        quota: None,
        for_s: None,
    };
    assert!(!client.host("camera").await.unwrap().policy.own);

    let all = PolicyPatch {
        ports: Some("all".to_owned()),
        quota: Some(1),
        for_s: Some(60),
        ..policy("allow")
    };
    let shown = client.set_policy("camera", Some(all)).await.unwrap().policy;
    assert!(shown.own && shown.expires_in_s.is_some_and(|left| left <= 60));
    assert_eq!((shown.ports.as_str(), shown.quota), ("all", 1));
    assert!(matches!(home.ask(22).await, Outcome::Granted(_)));
    let full = Outcome::Refused(Refusal::QuotaExceeded);
    assert_eq!(home.ask(25).await, full);

    client
        .set_policy("camera", Some(policy("deny")))
        .await
        .unwrap();
    assert_eq!(client.mappings().await.unwrap(), []);
    let denied = Outcome::Refused(Refusal::PortDenied);
    assert_eq!(home.ask(8080).await, denied);
    let shown = client.set_policy("camera", None).await.unwrap().policy;
    assert_eq!((shown.own, shown.access.as_str()), (false, "ask"));
    assert!(matches!(home.ask(8080).await, Outcome::Granted(_)));

    let wrong = client.set_policy("camera", Some(policy("aks"))).await;
    problem(wrong, 422, "body-invalid");
    let class = PolicyPatch {
        ports: Some("low".to_owned()),
        ..policy("ask")
    };
    let wrong = client.set_policy("camera", Some(class)).await;
    problem(wrong, 422, "body-invalid");
    let nobody = client.set_policy("nobody", None).await;
    problem(nobody, 404, "not-found");
}
