use std::net::IpAddr;

use super::*;

fn public() -> Reach {
    Reach::Public { except: Vec::new() }
}

#[test]
fn private_loopback_and_special_addresses_are_refused_in_every_spelling() {
    for text in [
        "http://127.0.0.1/hook",
        "http://127.1/hook",
        "http://2130706433/hook",
        "http://0x7f000001/hook",
        "http://0177.0.0.1/hook",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",
        "http://0.0.0.0/",
        "http://198.18.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:db8::1]/",
        "http://[ff02::1]/",
    ] {
        let url: Url = text.parse().unwrap();
        assert!(
            matches!(check(&url, &public()), Err(Refused::Address(_))),
            "{text}"
        );
    }
}

#[test]
fn public_addresses_and_names_are_asked() {
    for text in [
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
        "https://hooks.example.com/x",
        "http://100.128.0.1/",
        "http://172.32.0.1/",
    ] {
        let url: Url = text.parse().unwrap();
        assert_eq!(check(&url, &public()), Ok(()), "{text}");
    }
    let url: Url = "ftp://8.8.8.8/".parse().unwrap();
    assert_eq!(check(&url, &public()), Err(Refused::Scheme));
}

#[test]
fn a_network_that_the_operator_allows_is_allowed_and_no_other() {
    let reach = Reach::Public {
        except: vec!["10.8.0.0/16".parse().unwrap()],
    };
    let permits = |text: &str| reach.permits(text.parse::<IpAddr>().unwrap());
    assert!(permits("10.8.3.4"));
    assert!(permits("::ffff:10.8.3.4"), "however it is written");
    assert!(!permits("10.9.0.1"));
    assert!(!permits("127.0.0.1"));
}

#[tokio::test]
async fn a_name_that_leads_to_loopback_is_not_connected_to() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Client::new(public(), Duration::from_secs(2)).unwrap();
    let url: Url = format!("http://localhost:{port}/").parse().unwrap();
    let asked = client.post(url).unwrap().send().await;
    let error = asked.unwrap_err();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    let mut texts = Vec::new();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    assert!(
        texts.iter().any(|text| text.contains("not allowed")),
        "{texts:?}"
    );
}
