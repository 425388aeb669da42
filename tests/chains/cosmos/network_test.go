package main

import (
	"strings"
	"testing"

	sdkmath "cosmossdk.io/math"
	"github.com/cosmos/cosmos-sdk/client/grpc/cmtservice"
	nodeservice "github.com/cosmos/cosmos-sdk/client/grpc/node"
	sdk "github.com/cosmos/cosmos-sdk/types"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	"google.golang.org/grpc/codes"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
)

// TestNetwork walks custody's money through all that the chain can do to it, as a client over gRPC.
func TestNetwork(t *testing.T) {
	h := start(t)
	h.services()
	h.deposit()
	h.delegateAndEarn()
	h.undelegate()
	h.refusals()
	h.downtime()
	h.endpoints()
	h.standstill()
	h.doubleSign() // last: it takes a validator away for good
}

// services are those that softstake calls.
func (h *harness) services() {
	stream, err := reflection.NewServerReflectionClient(h.grpc).ServerReflectionInfo(brief())
	if err != nil {
		h.Fatal(err)
	}
	ask := &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil {
		h.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		h.Fatal(err)
	}
	served := map[string]bool{}
	for _, s := range answer.GetListServicesResponse().Service {
		served[s.Name] = true
	}
	for _, wanted := range []string{
		"cosmos.auth.v1beta1.Query", "cosmos.bank.v1beta1.Query", "cosmos.staking.v1beta1.Query",
		"cosmos.distribution.v1beta1.Query", "cosmos.slashing.v1beta1.Query", "cosmos.mint.v1beta1.Query",
		"cosmos.evidence.v1beta1.Query", "cosmos.tx.v1beta1.Service", "cosmos.base.tendermint.v1beta1.Service",
		"cosmos.base.node.v1beta1.Service", "grpc.reflection.v1alpha.ServerReflection",
	} {
		if !served[wanted] {
			h.Errorf("%s is not served", wanted)
		}
	}
	info, err := cmtservice.NewServiceClient(h.grpc).GetNodeInfo(brief(), &cmtservice.GetNodeInfoRequest{})
	if err != nil || info.DefaultNodeInfo.Network != h.settings.ChainID {
		h.Fatal(info, err)
	}
	config, err := nodeservice.NewServiceClient(h.grpc).Config(brief(), &nodeservice.ConfigRequest{})
	if err != nil || config.MinimumGasPrice != "0.005000000000000000uatom" {
		h.Fatal(config, err)
	}
	h.Logf("services: %d; node %s of %s; config: %s", len(served), info.DefaultNodeInfo.Moniker, info.DefaultNodeInfo.Network, config)
}

func (h *harness) deposit() {
	before := h.balance(h.head())
	sent := h.lever(`{"do":"send","from":"faucet","to":"custody","amount":"2500000","memo":"deposit 4711"}`)
	found := h.find(sent["hash"].(string))
	if got := h.balance(found.Height).Sub(before); !got.Equal(sdkmath.NewInt(2_500_000)) {
		h.Fatalf("custody received %s", got)
	}
	query := "transfer.recipient='" + h.custody.Address.String() + "'"
	byEvent, err := txtypes.NewServiceClient(h.grpc).GetTxsEvent(brief(), &txtypes.GetTxsEventRequest{Query: query, Page: 1, Limit: 10})
	if err != nil || len(byEvent.Txs) != 1 || byEvent.Txs[0].Body.Memo != "deposit 4711" {
		h.Fatal(byEvent, err)
	}
	h.show("deposit, transaction", kept(found.Events, "transfer", "coin_received", "message", "tx"))
}

func (h *harness) delegateAndEarn() {
	const stake = 1_000_000_000_000
	delegate := func(amount int64) *sdk.TxResponse {
		return h.does(stakingtypes.NewMsgDelegate(h.custody.Address.String(), h.operator(0), h.coins(amount)))
	}
	first := delegate(stake)
	h.show("first delegation, transaction", kept(first.Events, "delegate", "withdraw_rewards"))
	if got := h.delegated(0, first.Height); !got.Equal(sdkmath.NewInt(stake)) {
		h.Fatalf("delegated: %s", got)
	}
	h.reached(first.Height + 4)
	early, late := h.rewards(first.Height+2), h.rewards(first.Height+4)
	if !late.GT(early) || !early.Equal(h.rewards(first.Height+2)) {
		h.Fatalf("rewards at two heights: %s, %s", early, late)
	}
	h.Logf("rewards after 2 and 4 blocks: %s, %s", early, late)
	h.show("rewards, block", kept(h.blockEvents(first.Height+4, "rewards", "commission", "mint", "proposer_reward"), "rewards", "mint")[:2])

	// A second delegation withdraws the rewards by itself.
	second := delegate(stake)
	automatic := kept(second.Events, "withdraw_rewards")
	h.show("second delegation, transaction", kept(second.Events, "delegate", "withdraw_rewards", "transfer"))
	if len(automatic) != 1 || attribute(automatic[0], "delegator") != h.custody.Address.String() {
		h.Fatal("the second delegation withdrew nothing")
	}
	gain := h.balance(second.Height).Sub(h.balance(second.Height - 1)).AddRaw(stake).Add(h.settings.fee(500_000))
	if got := attribute(automatic[0], "amount"); got != gain.String()+bondDenom {
		h.Fatalf("the event says %s, the balance %s", got, gain)
	}

	h.reached(second.Height + 2)
	withdrawn := h.does(
		distrtypes.NewMsgWithdrawDelegatorReward(h.custody.Address.String(), h.operator(0)),
		distrtypes.NewMsgWithdrawDelegatorReward(h.custody.Address.String(), h.operator(0)),
	)
	h.show("withdrawn twice in one, transaction", kept(withdrawn.Events, "withdraw_rewards"))

	moved := h.does(stakingtypes.NewMsgBeginRedelegate(h.custody.Address.String(), h.operator(0), h.operator(1), h.coins(stake/2)))
	h.show("redelegation, transaction", kept(moved.Events, "redelegate", "withdraw_rewards"))
	onward := h.broadcast(h.sign(h.settings, txOptions{}, stakingtypes.NewMsgBeginRedelegate(h.custody.Address.String(), h.operator(1), h.operator(2), h.coins(5))))
	if failed := h.find(onward.TxHash); failed.Code == 0 {
		h.Fatal("redelegated onward before the first matured")
	} else {
		h.Logf("redelegated onward: code %d of %s: %s", failed.Code, failed.Codespace, failed.RawLog)
	}
}

func (h *harness) undelegate() {
	custody := h.custody.Address.String()
	began := h.does(stakingtypes.NewMsgUndelegate(custody, h.operator(0), h.coins(7_000_000)))
	h.show("undelegation, transaction", kept(began.Events, "unbond", "withdraw_rewards"))
	other := h.does(stakingtypes.NewMsgUndelegate(custody, h.operator(0), h.coins(3_000_000)))
	back := h.does(stakingtypes.NewMsgCancelUnbondingDelegation(custody, h.operator(0), other.Height, h.coins(3_000_000)))
	h.show("cancelled, transaction", kept(back.Events, "cancel_unbonding_delegation", "withdraw_rewards"))
	entries := h.unbonding(0, back.Height)
	if len(entries) != 1 || !entries[0].Balance.Equal(sdkmath.NewInt(7_000_000)) {
		h.Fatal("unbonding: ", entries)
	}
	var matured int64
	for height := back.Height; matured == 0; height++ {
		h.reached(height)
		if events := h.blockEvents(height, "complete_unbonding"); len(events) > 0 {
			h.show("matured, block", h.blockEvents(height, "complete_unbonding", "transfer", "complete_redelegation"))
			matured = height
		}
	}
	if got := h.balance(matured).Sub(h.balance(matured - 1)); !got.Equal(sdkmath.NewInt(7_000_000)) {
		h.Fatalf("%s came back", got)
	}
	if heights := h.blockSearch("complete_unbonding.delegator='" + custody + "'"); len(heights) != 1 || heights[0] != matured {
		h.Fatal("block_search: ", heights)
	}
	// Events of a block belong to no transaction, and gRPC searches transactions only.
	found, err := txtypes.NewServiceClient(h.grpc).GetTxsEvent(brief(), &txtypes.GetTxsEventRequest{Query: "complete_unbonding.delegator='" + custody + "'"})
	if err != nil || len(found.Txs) != 0 {
		h.Fatal(found, err)
	}
}

func (h *harness) refusals() {
	custody := h.custody.Address.String()
	msg := stakingtypes.NewMsgDelegate(custody, h.operator(0), h.coins(1))
	refused := func(why string, code uint32, tx []byte) {
		h.Helper()
		sent := h.broadcast(tx)
		h.Logf("%s: code %d of %s: %s", why, sent.Code, sent.Codespace, sent.RawLog)
		if sent.Code != code {
			h.Errorf("%s: code %d instead of %d", why, sent.Code, code)
		}
	}
	poor := h.settings
	poor.MinGasPrice = "0.001"
	refused("fee too small", 13, h.sign(poor, txOptions{}, msg))
	refused("timed out", 30, h.sign(h.settings, txOptions{timeoutHeight: uint64(h.head() - 1)}, msg))
	elsewhere := h.settings
	elsewhere.ChainID = "another-chain"
	refused("another chain's", 4, h.sign(elsewhere, txOptions{}, msg))
	refused("memo too long", 12, h.sign(h.settings, txOptions{memo: strings.Repeat("m", 513)}, msg))
	once := h.sign(h.settings, txOptions{}, msg)
	hash := h.broadcast(once).TxHash
	refused("same bytes again at once", 19, once)
	h.find(hash)
	refused("same bytes again once they stand in a block", 19, once)
	stale := h.sequence() - 1
	refused("a sequence that is used", 32, h.signAt(h.settings, txOptions{sequence: stale, memo: "another"}, msg))
	refused("a sequence too far ahead", 32, h.signAt(h.settings, txOptions{sequence: stale + 3}, msg))

	_, err := txtypes.NewServiceClient(h.grpc).GetTx(brief(), &txtypes.GetTxRequest{Hash: strings.Repeat("AB", 32)})
	if status.Code(err) != codes.NotFound {
		h.Error("an unknown hash:", err)
	}
	_, err = stakingtypes.NewQueryClient(h.grpc).Params(at(h.head()+100), &stakingtypes.QueryParamsRequest{})
	if err == nil {
		h.Error("the future was answered")
	}
	h.Logf("unknown hash and future height: %v", err)
}

func (h *harness) downtime() {
	h.does(stakingtypes.NewMsgUndelegate(h.custody.Address.String(), h.operator(1), h.coins(1_000_000_000)))
	down := h.lever(`{"do":"down","validator":1}`)
	height := int64(down["height"].(float64))
	h.reached(height)
	// The unbonding began before the infraction, which is the last of the blocks that it missed.
	h.slashedBy(height, 1, sdkmath.LegacyNewDecWithPrec(1, 4), sdkmath.LegacyZeroDec())
	h.show("downtime, block", h.blockEvents(height, "slash", "liveness"))
	h.lever(`{"do":"unjail","validator":1}`)
}

func (h *harness) doubleSign() {
	h.does(stakingtypes.NewMsgUndelegate(h.custody.Address.String(), h.operator(1), h.coins(2_000_000_000)))
	h.lever(`{"do":"wait_blocks","n":3}`)
	caught := h.lever(`{"do":"double_sign","validator":1,"ago":6}`)
	height := int64(caught["height"].(float64))
	h.reached(height)
	// The unbonding began after the infraction: its tokens stood behind the validator then.
	fraction := sdkmath.LegacyNewDecWithPrec(5, 2)
	h.slashedBy(height, 1, fraction, fraction)
	h.show("double sign, block", h.blockEvents(height, "slash", "liveness"))
	state := h.lever(`{"do":"validator","validator":1}`)
	if state["tombstoned"] != true || state["jailed"] != true {
		h.Fatal(state)
	}
	if h.tryLever(`{"do":"unjail","validator":1}`)["ok"] != false || h.tryLever(`{"do":"down","validator":0}`)["ok"] != false {
		h.Fatal("a dead validator came back, or too few were left to go on")
	}
}

// slashedBy wants custody's delegation and its newest unbonding to have lost these fractions in that block.
func (h *harness) slashedBy(height int64, validator int, fraction, ofUnbonding sdkmath.LegacyDec) {
	h.Helper()
	near := func(what string, before, after sdkmath.Int, wanted sdkmath.LegacyDec) {
		h.Helper()
		h.Logf("height %d: %s %s -> %s", height, what, before, after)
		lost := before.Sub(after).ToLegacyDec().Quo(before.ToLegacyDec())
		if lost.Sub(wanted).Abs().GT(sdkmath.LegacyNewDecWithPrec(1, 9)) {
			h.Errorf("%s lost %s instead of %s", what, lost, wanted)
		}
	}
	near("delegation", h.delegated(validator, height-1), h.delegated(validator, height), fraction)
	before, after := h.unbonding(validator, height-1), h.unbonding(validator, height)
	near("unbonding", before[len(before)-1].Balance, after[len(after)-1].Balance, ofUnbonding)
}

func (h *harness) endpoints() {
	latest := func(i int) error {
		_, err := cmtservice.NewServiceClient(h.dial(h.ready.Nodes[i].Grpc)).GetLatestBlock(brief(), &cmtservice.GetLatestBlockRequest{})
		return err
	}
	h.lever(`{"do":"stop_node","node":0}`)
	if err := latest(0); status.Code(err) != codes.Unavailable {
		h.Error("a stopped node:", err)
	}
	h.lever(`{"do":"start_node","node":0}`)
	if err := latest(0); err != nil {
		h.Error("a started node:", err)
	}
	if h.tryLever(`{"do":"lag_node","node":0}`)["ok"] != false {
		h.Error("a validator lags")
	}
	h.lever(`{"do":"lag_node","node":4}`)
	stuck := h.head()
	h.lever(`{"do":"wait_blocks","n":5}`)
	if now := h.head(); now != stuck {
		h.Errorf("it lags, and went from %d to %d", stuck, now)
	}
	h.lever(`{"do":"catch_up_node","node":4}`)
	if now := h.head(); now < stuck+5 {
		h.Errorf("it caught up to %d from %d", now, stuck)
	}
}

func (h *harness) standstill() {
	stopped := h.lever(`{"do":"halt"}`)
	sent := h.broadcast(h.sign(h.settings, txOptions{}, stakingtypes.NewMsgDelegate(h.custody.Address.String(), h.operator(0), h.coins(1))))
	if sent.Code != 0 {
		h.Fatal(sent)
	}
	if now := h.lever(`{"do":"height"}`); now["height"] != stopped["height"] {
		h.Error("it went on:", now)
	}
	h.lever(`{"do":"resume"}`)
	if found := h.find(sent.TxHash); found.Height <= int64(stopped["height"].(float64)) {
		h.Error(found)
	}
}
