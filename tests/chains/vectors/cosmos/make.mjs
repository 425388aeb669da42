// Makes vectors.json: every kind of transaction that softstake sends for ATOM, built and signed offline by CosmJS,
// with each step's bytes. `npm ci --ignore-scripts && npm run make`; running it again gives the same file, since the
// keys are derived from phrases and the signatures are RFC 6979's. The keys hold nothing: never fund them.
//
// Each vector is checked before it is written: the signature holds for the sign bytes, its S is low, and the bytes
// decode to what went in.
import { writeFileSync } from "node:fs";
import { encodeSecp256k1Pubkey } from "@cosmjs/amino";
import {
  Bip39,
  EnglishMnemonic,
  Secp256k1,
  Secp256k1Signature,
  Slip10,
  Slip10Curve,
  ripemd160,
  sha256,
  stringToPath,
} from "@cosmjs/crypto";
import { fromBech32, toBech32, toHex, toUtf8 } from "@cosmjs/encoding";
import {
  DirectSecp256k1HdWallet,
  DirectSecp256k1Wallet,
  Registry,
  decodeTxRaw,
  encodePubkey,
  makeAuthInfoBytes,
  makeSignBytes,
  makeSignDoc,
} from "@cosmjs/proto-signing";
import { MsgSend } from "cosmjs-types/cosmos/bank/v1beta1/tx";
import {
  MsgSetWithdrawAddress,
  MsgWithdrawDelegatorReward,
} from "cosmjs-types/cosmos/distribution/v1beta1/tx";
import {
  MsgBeginRedelegate,
  MsgCancelUnbondingDelegation,
  MsgDelegate,
  MsgUndelegate,
} from "cosmjs-types/cosmos/staking/v1beta1/tx";
import { TxRaw } from "cosmjs-types/cosmos/tx/v1beta1/tx";

const registry = new Registry([
  [MsgDelegate.typeUrl, MsgDelegate],
  [MsgUndelegate.typeUrl, MsgUndelegate],
  [MsgBeginRedelegate.typeUrl, MsgBeginRedelegate],
  [MsgCancelUnbondingDelegation.typeUrl, MsgCancelUnbondingDelegation],
  [MsgWithdrawDelegatorReward.typeUrl, MsgWithdrawDelegatorReward],
  [MsgSetWithdrawAddress.typeUrl, MsgSetWithdrawAddress],
  [MsgSend.typeUrl, MsgSend],
]);

// BIP 173 bounds an address at 90 characters; CosmJS's own default, no bound, is refused by the library under it.
const decoded = (address) => fromBech32(address, 90);
const seeded = (phrase) => sha256(toUtf8(`softstake test vectors: ${phrase}`));
const HD_PATH = "m/44'/118'/0'/0/0";

// The keys. Each yields its bytes and a wallet that signs with it.
const mnemonic = Bip39.encode(seeded("mnemonic")).toString();
async function fromMnemonic(name) {
  const wallet = await DirectSecp256k1HdWallet.fromMnemonic(mnemonic);
  const seed = await Bip39.mnemonicToSeed(new EnglishMnemonic(mnemonic));
  const { privkey } = Slip10.derivePath(Slip10Curve.Secp256k1, seed, stringToPath(HD_PATH));
  return described(name, wallet, privkey, { mnemonic, hd_path: HD_PATH });
}
async function fromPhrase(name) {
  const privkey = seeded(name);
  return described(name, await DirectSecp256k1Wallet.fromKey(privkey, "cosmos"), privkey, {});
}
async function described(name, wallet, privkey, origin) {
  const [{ address, pubkey }] = await wallet.getAccounts();
  const account = ripemd160(sha256(pubkey));
  same(address, toBech32("cosmos", account), `the address of ${name}`);
  const record = {
    name,
    ...origin,
    private_key: toHex(privkey),
    public_key: toHex(pubkey),
    account_bytes: toHex(account),
    address,
    validator_address: toBech32("cosmosvaloper", account),
  };
  return { wallet, pubkey, record, address };
}

const custody = await fromMnemonic("custody");
const second = await fromPhrase("second");
const third = await fromPhrase("third");
const validator = (n) => toBech32("cosmosvaloper", seeded(`validator ${n}`).slice(0, 20));
const uatom = (amount) => ({ denom: "uatom", amount });
const ABOVE_U64 = (2n ** 64n + 12345n).toString();
const ABOVE_U128 = (2n ** 128n + 1n).toString();

const delegate = (d, n, amount) => [MsgDelegate, { delegatorAddress: d.address, validatorAddress: validator(n), amount: uatom(amount) }];
const undelegate = (d, n, amount) => [MsgUndelegate, { delegatorAddress: d.address, validatorAddress: validator(n), amount: uatom(amount) }];
const redelegate = (d, from, to, amount) => [MsgBeginRedelegate, {
  delegatorAddress: d.address, validatorSrcAddress: validator(from), validatorDstAddress: validator(to), amount: uatom(amount),
}];
const cancel = (d, n, amount, creationHeight) => [MsgCancelUnbondingDelegation, {
  delegatorAddress: d.address, validatorAddress: validator(n), amount: uatom(amount), creationHeight,
}];
const withdraw = (d, n) => [MsgWithdrawDelegatorReward, { delegatorAddress: d.address, validatorAddress: validator(n) }];
const withdrawTo = (d, to) => [MsgSetWithdrawAddress, { delegatorAddress: d.address, withdrawAddress: to }];
const send = (d, to, ...amount) => [MsgSend, { fromAddress: d.address, toAddress: to, amount }];

const usual = {
  key: custody, chainId: "cosmoshub-4", accountNumber: 1234567n, sequence: 42n, timeoutHeight: 28000000n,
  fee: [uatom("1250")], gas: 250000n, memo: "",
};
const cases = [
  ["delegate", { messages: [delegate(custody, 1, "1000000")] }],
  ["delegate_one_base_unit", { messages: [delegate(custody, 1, "1")] }],
  ["delegate_above_u64", { messages: [delegate(custody, 2, ABOVE_U64)] }],
  ["delegate_above_u128", { messages: [delegate(custody, 2, ABOVE_U128)] }],
  ["delegate_first_of_an_account", { accountNumber: 0n, sequence: 0n, messages: [delegate(custody, 1, "5000000")] }],
  ["delegate_no_timeout_height", { timeoutHeight: 0n, messages: [delegate(custody, 1, "5000000")] }],
  ["delegate_no_fee", { fee: [], messages: [delegate(custody, 1, "5000000")] }],
  ["delegate_no_gas", { gas: 0n, messages: [delegate(custody, 1, "5000000")] }],
  ["delegate_two_fee_denoms", {
    fee: [{ denom: "ibc/27394FB092D2ECCD56123C74F36E4C1F926001CEADA9CA97EA622B25F41E5EB2", amount: "7" }, uatom("1250")],
    messages: [delegate(custody, 1, "5000000")],
  }],
  ["delegate_largest_numbers", {
    accountNumber: 2n ** 64n - 1n, sequence: 2n ** 64n - 1n, timeoutHeight: 2n ** 64n - 1n, gas: 2n ** 53n - 1n,
    fee: [uatom((2n ** 64n - 1n).toString())], messages: [delegate(custody, 1, (2n ** 64n - 1n).toString())],
  }],
  ["delegate_other_key", { key: second, chainId: "softstake-test-1", messages: [delegate(second, 3, "123456789")] }],
  ["delegate_to_three", { gas: 600000n, fee: [uatom("3000")], messages: [1, 2, 3].map((n) => delegate(custody, n, `${n}000001`)) }],
  ["undelegate", { messages: [undelegate(custody, 1, "2500000")] }],
  ["undelegate_above_u64", { messages: [undelegate(custody, 1, ABOVE_U64)] }],
  ["redelegate", { gas: 400000n, fee: [uatom("2000")], messages: [redelegate(custody, 1, 2, "750000")] }],
  ["redelegate_above_u64", { messages: [redelegate(custody, 2, 1, ABOVE_U64)] }],
  ["cancel_unbonding", { messages: [cancel(custody, 1, "2500000", 27999000n)] }],
  ["cancel_unbonding_largest_height", { messages: [cancel(custody, 1, "1", 2n ** 63n - 1n)] }],
  ["withdraw_one", { messages: [withdraw(custody, 1)] }],
  ["withdraw_several", { gas: 900000n, fee: [uatom("4500")], messages: [1, 2, 3, 4, 5].map((n) => withdraw(custody, n)) }],
  ["set_withdraw_address", { messages: [withdrawTo(custody, second.address)] }],
  ["send_no_memo", { messages: [send(custody, second.address, uatom("1000000"))] }],
  ["send_memo", { memo: "deposit 4711", messages: [send(custody, second.address, uatom("1000000"))] }],
  ["send_memo_not_ascii", { memo: "Übertrag № 7 – 質押 🪙", messages: [send(custody, second.address, uatom("1000000"))] }],
  ["send_memo_quotes_and_newline", { memo: "a \"b\" \\ <c> &\n\td\u0000e", messages: [send(custody, second.address, uatom("1000000"))] }],
  ["send_memo_256_bytes", { memo: "m".repeat(256), messages: [send(custody, second.address, uatom("1000000"))] }],
  ["send_above_u64", { memo: "42", messages: [send(custody, third.address, uatom(ABOVE_U64))] }],
  ["send_to_itself", { messages: [send(custody, custody.address, uatom("1"))] }],
  ["send_all_empty", {
    accountNumber: 0n, sequence: 0n, timeoutHeight: 0n, fee: [], gas: 0n, key: third, chainId: "softstake-test-1",
    messages: [send(third, custody.address, uatom("0"))],
  }],
  ["withdraw_and_delegate", { gas: 500000n, fee: [uatom("2500")], memo: "op-1", messages: [withdraw(custody, 1), delegate(custody, 1, "31")] }],
];

async function vector([name, given]) {
  const { key, chainId, accountNumber, sequence, timeoutHeight, fee, gas, memo, messages } = { ...usual, ...given };
  const encodeObjects = messages.map(([type, value]) => ({ typeUrl: type.typeUrl, value: type.fromPartial(value) }));
  const body = registry.encodeTxBody({ messages: encodeObjects, memo, timeoutHeight });
  const pubkey = encodePubkey(encodeSecp256k1Pubkey(key.pubkey));
  const authInfo = makeAuthInfoBytes([{ pubkey, sequence }], fee, Number(gas), undefined, undefined);
  const signDoc = makeSignDoc(body, authInfo, chainId, accountNumber);
  const signBytes = makeSignBytes(signDoc);
  const signed = await key.wallet.signDirect(key.address, signDoc);
  const signature = Buffer.from(signed.signature.signature, "base64");
  const txRaw = TxRaw.encode(TxRaw.fromPartial({ bodyBytes: body, authInfoBytes: authInfo, signatures: [signature] })).finish();
  const digest = sha256(signBytes);
  await check(name, { key, digest, signature, txRaw, memo, timeoutHeight, sequence, gas, fee, encodeObjects });
  return {
    name,
    key: key.record.name,
    chain_id: chainId,
    account_number: accountNumber.toString(),
    sequence: sequence.toString(),
    timeout_height: timeoutHeight.toString(),
    fee,
    gas_limit: gas.toString(),
    memo,
    messages: messages.map(([type, value], i) => ({
      type_url: type.typeUrl,
      fields: snake(value),
      value: toHex(type.encode(encodeObjects[i].value).finish()),
    })),
    body: toHex(body),
    auth_info: toHex(authInfo),
    sign_doc: toHex(signBytes),
    sign_doc_sha256: toHex(digest),
    signature: toHex(signature),
    tx_raw: toHex(txRaw),
    tx_hash: toHex(sha256(txRaw)).toUpperCase(),
  };
}

async function check(name, v) {
  const parsed = Secp256k1Signature.fromFixedLength(v.signature);
  if (!(await Secp256k1.verifySignature(parsed, v.digest, v.key.pubkey))) throw new Error(`${name}: the signature does not hold`);
  const half = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;
  if (BigInt(`0x${toHex(v.signature.subarray(32))}`) > half) throw new Error(`${name}: S is not low`);
  const { body, authInfo } = decodeTxRaw(v.txRaw);
  same(body.memo, v.memo, `${name}: memo`);
  same(body.timeoutHeight, v.timeoutHeight, `${name}: timeout_height`);
  same(authInfo.signerInfos[0].sequence, v.sequence, `${name}: sequence`);
  same(authInfo.fee.gasLimit, v.gas, `${name}: gas_limit`);
  same(JSON.stringify(authInfo.fee.amount), JSON.stringify(v.fee), `${name}: fee`);
  body.messages.forEach((any, i) => {
    same(any.typeUrl, v.encodeObjects[i].typeUrl, `${name}: type of message ${i}`);
    same(text(registry.decode(any)), text(v.encodeObjects[i].value), `${name}: message ${i}`);
  });
}

function same(found, wanted, what) {
  if (found !== wanted) throw new Error(`${what}: ${found} where ${wanted} was expected`);
}
function text(value) {
  return JSON.stringify(value, (_, v) => (typeof v === "bigint" ? v.toString() : v));
}
function snake(fields) {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [
    key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`),
    typeof value === "bigint" ? value.toString() : value,
  ]));
}

// Strings that are no address of a key's account on the Hub (prefix "cosmos", 20 bytes), and why. CosmJS's decoder and
// those two conditions refuse each. Some modules' accounts have 32 bytes; softstake sends to none of them.
const flip = (s, i, c) => s.slice(0, i) + c + s.slice(i + 1);
const a = custody.address;
const refused = [
  ["one character changed", flip(a, 20, a[20] === "q" ? "p" : "q")],
  ["two characters swapped", flip(flip(a, 10, a[11]), 11, a[10])],
  ["last character missing", a.slice(0, -1)],
  ["mixed case", flip(a, a.search(/[a-z](?=[^a-z]*$)/), a[a.search(/[a-z](?=[^a-z]*$)/)].toUpperCase())],
  ["no separator", a.replace("1", "")],
  ["empty", ""],
  ["a validator's address", validator(1)],
  ["another chain's prefix", toBech32("osmo", decoded(a).data)],
  ["19 bytes", toBech32("cosmos", decoded(a).data.slice(1))],
  ["21 bytes", toBech32("cosmos", Uint8Array.from([0, ...decoded(a).data]))],
  ["no bytes", toBech32("cosmos", new Uint8Array())],
  ["a space in front", ` ${a}`],
  ["the checksum of bech32m (BIP 350)", bech32m("cosmos", decoded(a).data)],
];
function bech32m(prefix, data) {
  const words = [];
  let bits = 0, held = 0;
  for (const byte of data) {
    held = (held << 8) | byte;
    for (bits += 8; bits >= 5; bits -= 5) words.push((held >> (bits - 5)) & 31);
    held &= 0xff;
  }
  if (bits > 0) words.push((held << (5 - bits)) & 31);
  const code = (p) => p.charCodeAt(0);
  const expanded = [...[...prefix].map((c) => code(c) >> 5), 0, ...[...prefix].map((c) => code(c) & 31)];
  const generator = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
  let sum = 1;
  for (const w of [...expanded, ...words, 0, 0, 0, 0, 0, 0]) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ w;
    generator.forEach((g, i) => { if ((top >> i) & 1) sum ^= g; });
  }
  sum ^= 0x2bc830a3;
  for (let i = 0; i < 6; i++) words.push((sum >> (5 * (5 - i))) & 31);
  return `${prefix}1${words.map((w) => "qpzry9x8gf2tvdw0s3jn54khce6mua7l"[w]).join("")}`;
}
function isAccount(address) {
  try {
    const { prefix, data } = decoded(address);
    return prefix === "cosmos" && data.length === 20;
  } catch {
    return false;
  }
}
for (const [why, address] of refused) if (isAccount(address)) throw new Error(`taken for an account's address: ${why}`);
if (!isAccount(a)) throw new Error("an account's address is refused");

const vectors = [];
for (const c of cases) vectors.push(await vector(c));
const out = {
  made_by: "make.mjs with @cosmjs/proto-signing 0.39.0 and cosmjs-types 0.11.0",
  sign_mode: "SIGN_MODE_DIRECT",
  keys: [custody, second, third].map((k) => k.record),
  validators: [1, 2, 3, 4, 5].map((n) => ({ address: validator(n), account_bytes: toHex(decoded(validator(n)).data) })),
  refused_addresses: refused.map(([why, address]) => ({ why, address })),
  vectors,
};
writeFileSync(new URL("vectors.json", import.meta.url), `${JSON.stringify(out, null, 2)}\n`);
