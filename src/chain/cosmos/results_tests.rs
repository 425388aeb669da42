use super::*;

const CHAIN: &str = "softstake-test-1";

fn results(events: &str, own: &str) -> Vec<u8> {
    let transaction = format!(r#"{{"code":0,"gas_used":"1","events":{events}}}"#);
    let result = format!(r#"{{"height":"7","txs_results":[{transaction}]{own},"validator_updates":null}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":-1,"result":{result}}}"#).into_bytes()
}

fn block(chain: &str, height: u64, txs: &str) -> Vec<u8> {
    let header = format!(r#"{{"chain_id":"{chain}","height":"{height}","time":"2026-11-25T20:32:06.999999999Z"}}"#);
    format!(r#"{{"id":-1,"result":{{"block":{{"header":{header},"data":{{"txs":{txs}}}}}}}}}"#).into_bytes()
}

fn wrong<T: std::fmt::Debug>(found: Result<T, ChainError>) -> String {
    match found.unwrap_err() {
        ChainError::Untrusted(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_block_and_its_results_make_one() {
    // TxRaw { body: TxBody { memo: "m:1:2" } }
    let bytes = [&[0x0a, 7, 0x12, 5][..], b"m:1:2"].concat();
    let header = Header::read(&block(CHAIN, 7, &format!(r#"["{}"]"#, BASE64.encode(&bytes))), 7, CHAIN).unwrap();
    let events =
        r#"[{"type":"tx","attributes":[{"key":"fee","value":"5uatom","index":true},{"key":"none","value":null}]}]"#;
    let read = Results::read(&results(events, r#","finalize_block_events":null"#), 7).unwrap();
    let block = read.of(&header).unwrap();
    assert_eq!((block.height, block.at, block.events.len()), (7, UnixSeconds::new(1_795_638_726), 0));
    let [transaction] = block.transactions.as_slice() else { panic!("{block:?}") };
    assert_eq!(transaction.memo, "m:1:2");
    assert_eq!(transaction.hash.as_str(), HEXUPPER.encode(&Sha256::digest(&bytes)));
    assert!(transaction.events[0].is("fee", "5uatom") && transaction.events[0].is("none", ""));
}

#[test]
fn what_does_not_fit_together_is_not_trusted() {
    let own = r#","finalize_block_events":[]"#;
    let header = |txs: &str| Header::read(&block(CHAIN, 7, txs), 7, CHAIN).unwrap();
    assert_eq!(wrong(Results::read(&results("[]", own), 8)), "asked for the results of block 8, got that of 7");
    assert!(wrong(Results::read(&results("[]", ""), 7)).contains("CometBFT 0.38"));
    assert!(wrong(Header::read(&block("another", 7, "[]"), 7, CHAIN)).contains("another"));
    assert!(wrong(Header::read(&block(CHAIN, 6, "[]"), 7, CHAIN)).contains("got that of 6"));
    assert!(wrong(Header::read(b"<html>", 7, CHAIN)).contains("a block"));
    let read = Results::read(&results("[]", own), 7).unwrap();
    assert_eq!(wrong(read.of(&header("null"))), "block 7 has 0 transactions and 1 results");
}

#[test]
fn a_height_that_the_node_has_not_is_no_answer() {
    let json = br#"{"jsonrpc":"2.0","id":-1,"error":{"code":-32603,"message":"Internal error","data":"height 9 must be less"}}"#;
    let found = Results::read(json, 9).unwrap_err();
    assert!(matches!(&found, ChainError::Unavailable(why) if why.contains("must be less")), "{found:?}");
}

#[test]
fn what_is_stored_is_of_the_height_that_was_asked_for() {
    let json = |code: u32, value: &str, height: u64| {
        format!(r#"{{"result":{{"response":{{"code":{code},"log":"pruned","value":{value},"height":"{height}"}}}}}}"#)
    };
    assert_eq!(stored(json(0, r#""GAM=""#, 4).as_bytes(), 4), Ok(Some(vec![0x18, 3])));
    assert_eq!(stored(json(0, "null", 4).as_bytes(), 4), Ok(None));
    assert!(matches!(stored(json(1, "null", 4).as_bytes(), 4), Err(ChainError::Unavailable(_))));
    assert!(wrong(stored(json(0, "null", 5).as_bytes(), 4)).contains("got that of 5"));
}
