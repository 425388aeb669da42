use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server of which each connection is given one answer, and then closed; `endless` repeats the last part for ever.
async fn server(head: &'static str, part: &'static [u8], endless: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 1_024];
                let read = stream.read(&mut request).await.unwrap();
                assert!(request[..read].starts_with(b"GET /base/status?height=1 HTTP/1.1\r\n"));
                stream.write_all(head.as_bytes()).await.unwrap();
                while stream.write_all(part).await.is_ok() && endless {}
            });
        }
    });
    format!("http://{address}/base/")
}

async fn asked(endpoint: &str, timeout: Duration) -> Result<Bytes, ChainError> {
    Rpc::new(endpoint, timeout, None).unwrap().get("/status?height=1").await
}

#[tokio::test]
async fn a_closed_connection_is_opened_again() {
    let endpoint = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"{}", false).await;
    let rpc = Rpc::new(&endpoint, PATIENCE, None).unwrap();
    for _ in 0..3 {
        assert_eq!(rpc.get("/status?height=1").await, Ok(Bytes::from_static(b"{}")));
    }
}

#[tokio::test]
async fn errors_of_the_node_are_read_and_others_are_no_answer() {
    let endpoint = server("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n", b"{}", false).await;
    assert!(asked(&endpoint, PATIENCE).await.is_ok());
    let endpoint =
        server("HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n", b"", false).await;
    let found = asked(&endpoint, PATIENCE).await;
    assert_eq!(found, Err(ChainError::Unavailable("/status: status 302 Found".to_owned())));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(matches!(asked(&format!("http://{nobody}"), PATIENCE).await, Err(ChainError::Unavailable(_))));
}

#[tokio::test]
async fn neither_time_nor_size_is_without_bounds() {
    let endpoint = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"", false).await;
    assert!(matches!(asked(&endpoint, PATIENCE).await, Err(ChainError::Unavailable(_))));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let found = asked(&format!("http://{}", silent.local_addr().unwrap()), Duration::from_millis(50)).await;
    assert_eq!(found, Err(ChainError::Unavailable("/status: no answer in time".to_owned())));
    let endpoint = server("HTTP/1.1 200 OK\r\n\r\n", &[b' '; 65_536], true).await;
    let found = asked(&endpoint, PATIENCE).await;
    assert_eq!(found, Err(ChainError::Unavailable("/status: length limit exceeded".to_owned())));
}

#[tokio::test]
async fn endpoints_are_checked() {
    let wrong = |endpoint: &str| Rpc::new(endpoint, PATIENCE, None).unwrap_err().to_string();
    assert_eq!(wrong("ftp://node"), "\"ftp://node\" begins with neither http:// nor https://");
    assert_eq!(wrong("https://node"), "\"https://node\" needs authorities to trust");
    assert_eq!(wrong("/status"), "\"/status\" names no host");
    assert_eq!(wrong("not an address"), "\"not an address\" is no address");
}
