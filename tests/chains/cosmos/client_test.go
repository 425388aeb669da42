package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cosmossdk.io/log"
	sdkmath "cosmossdk.io/math"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cosmos/cosmos-sdk/codec"
	sdk "github.com/cosmos/cosmos-sdk/types"
	txtypes "github.com/cosmos/cosmos-sdk/types/tx"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// harness is what a test's parent process has: the two pipes, and one node's addresses.
type harness struct {
	*testing.T
	settings Settings
	app      *App // for encoding and signing only
	in       io.Writer
	out      *bufio.Scanner
	custody  *Account
	grpc     *grpc.ClientConn
	rpc      string
	ready    struct {
		Ready bool `json:"ready"`
		Nodes []struct {
			Grpc, RPC string
			Validator bool
		}
		Validators []struct {
			Operator  string `json:"operator_address"`
			Consensus string `json:"consensus_address"`
		}
	}
}

// start runs a network the way main does and connects to the first observer.
func start(t *testing.T) *harness {
	settings, err := settingsFrom([]string{"-home", t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(settings, inRead, outWrite)
		outWrite.Close()
	}()
	t.Cleanup(func() {
		inWrite.Close()
		if err := <-ended; err != nil {
			t.Error("the network did not end well:", err)
		}
	})
	h := &harness{T: t, settings: settings, in: inWrite, out: bufio.NewScanner(outRead), custody: settings.account("custody", custodyFunds)}
	if h.app, err = newApp(log.NewNopLogger(), settings); err != nil {
		t.Fatal(err)
	}
	if !h.out.Scan() {
		t.Fatal("it never said that it is ready")
	}
	if err := json.Unmarshal(h.out.Bytes(), &h.ready); err != nil || !h.ready.Ready {
		t.Fatalf("%s: %v", h.out.Bytes(), err)
	}
	t.Logf("ready: %s", h.out.Bytes())
	observer := h.ready.Nodes[4]
	h.rpc, h.grpc = observer.RPC, h.dial(observer.Grpc)
	return h
}

func (h *harness) dial(address string) *grpc.ClientConn {
	coding := grpc.ForceCodec(codec.NewProtoCodec(h.app.registry).GRPCCodec())
	conn, err := grpc.NewClient(strings.TrimPrefix(address, "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(coding))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { conn.Close() })
	return conn
}

// lever gives a command and wants it done.
func (h *harness) lever(command string, args ...any) map[string]any {
	h.Helper()
	answer := h.tryLever(command, args...)
	if answer["ok"] != true {
		h.Fatalf("%s: %v", command, answer["error"])
	}
	return answer
}

func (h *harness) tryLever(command string, args ...any) map[string]any {
	h.Helper()
	line := fmt.Sprintf(command, args...)
	fmt.Fprintln(h.in, line)
	if !h.out.Scan() {
		h.Fatal("no answer to", line)
	}
	var answer map[string]any
	if err := json.Unmarshal(h.out.Bytes(), &answer); err != nil {
		h.Fatal(err)
	}
	h.Logf("%s -> %s", line, h.out.Bytes())
	return answer
}

// brief bounds one call.
func brief() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	time.AfterFunc(10*time.Second, cancel)
	return ctx
}

// at asks for the state after a height's block.
func at(height int64) context.Context {
	return metadata.AppendToOutgoingContext(brief(), "x-cosmos-block-height", strconv.FormatInt(height, 10))
}

// head is the latest height of the node that h talks to, as its answers' header says.
func (h *harness) head() int64 {
	h.Helper()
	var header metadata.MD
	if _, err := stakingtypes.NewQueryClient(h.grpc).Params(brief(), &stakingtypes.QueryParamsRequest{}, grpc.Header(&header)); err != nil {
		h.Fatal(err)
	}
	height, err := strconv.ParseInt(header.Get("x-cosmos-block-height")[0], 10, 64)
	if err != nil {
		h.Fatal(err)
	}
	return height
}

// reached waits until the node has a height's block.
func (h *harness) reached(height int64) {
	h.Helper()
	if err := until(func() (bool, error) { return h.head() >= height, nil }); err != nil {
		h.Fatalf("no block %d: %v", height, err)
	}
}

func (h *harness) sequence() uint64 {
	h.Helper()
	account, err := authtypes.NewQueryClient(h.grpc).AccountInfo(brief(), &authtypes.QueryAccountInfoRequest{Address: h.custody.Address.String()})
	if err != nil || account.Info.AccountNumber != 0 {
		h.Fatal(account, err)
	}
	return account.Info.Sequence
}

// sign makes custody's next transaction; signAt, one at the sequence of the options.
func (h *harness) sign(s Settings, o txOptions, msgs ...sdk.Msg) []byte {
	h.Helper()
	o.sequence = h.sequence()
	return h.signAt(s, o, msgs...)
}

func (h *harness) signAt(s Settings, o txOptions, msgs ...sdk.Msg) []byte {
	h.Helper()
	o.gas = 500_000
	tx, err := signed(h.app, s, h.custody, o, msgs...)
	if err != nil {
		h.Fatal(err)
	}
	bytes, err := h.app.txConfig.TxEncoder()(tx)
	if err != nil {
		h.Fatal(err)
	}
	return bytes
}

func (h *harness) broadcast(tx []byte) *sdk.TxResponse {
	h.Helper()
	sent, err := txtypes.NewServiceClient(h.grpc).BroadcastTx(brief(), &txtypes.BroadcastTxRequest{TxBytes: tx, Mode: txtypes.BroadcastMode_BROADCAST_MODE_SYNC})
	if err != nil {
		h.Fatal(err)
	}
	return sent.TxResponse
}

// find waits for a transaction by its hash.
func (h *harness) find(hash string) *sdk.TxResponse {
	h.Helper()
	var found *sdk.TxResponse
	err := until(func() (bool, error) {
		response, err := txtypes.NewServiceClient(h.grpc).GetTx(brief(), &txtypes.GetTxRequest{Hash: hash})
		if err == nil {
			found = response.TxResponse
		}
		return err == nil, nil
	})
	if err != nil {
		h.Fatal(hash, err)
	}
	h.reached(found.Height)
	return found
}

// does has custody carry out messages, over gRPC, and wants them to take effect.
func (h *harness) does(msgs ...sdk.Msg) *sdk.TxResponse {
	h.Helper()
	sent := h.broadcast(h.sign(h.settings, txOptions{}, msgs...))
	if sent.Code != 0 {
		h.Fatalf("refused: %d of %s: %s", sent.Code, sent.Codespace, sent.RawLog)
	}
	found := h.find(sent.TxHash)
	if found.Code != 0 {
		h.Fatalf("failed: %d of %s: %s", found.Code, found.Codespace, found.RawLog)
	}
	return found
}

func (h *harness) operator(i int) string { return h.ready.Validators[i].Operator }

func (h *harness) balance(height int64) sdkmath.Int {
	h.Helper()
	response, err := banktypes.NewQueryClient(h.grpc).Balance(at(height), &banktypes.QueryBalanceRequest{Address: h.custody.Address.String(), Denom: bondDenom})
	if err != nil {
		h.Fatal(err)
	}
	return response.Balance.Amount
}

func (h *harness) delegated(validator int, height int64) sdkmath.Int {
	h.Helper()
	response, err := stakingtypes.NewQueryClient(h.grpc).Delegation(at(height), &stakingtypes.QueryDelegationRequest{
		DelegatorAddr: h.custody.Address.String(), ValidatorAddr: h.operator(validator),
	})
	if err != nil {
		h.Fatal(err)
	}
	return response.DelegationResponse.Balance.Amount
}

func (h *harness) unbonding(validator int, height int64) []stakingtypes.UnbondingDelegationEntry {
	h.Helper()
	response, err := stakingtypes.NewQueryClient(h.grpc).UnbondingDelegation(at(height), &stakingtypes.QueryUnbondingDelegationRequest{
		DelegatorAddr: h.custody.Address.String(), ValidatorAddr: h.operator(validator),
	})
	if err != nil {
		h.Fatal(err)
	}
	return response.Unbond.Entries
}

// rewards are what custody could withdraw from all its validators after a height's block.
func (h *harness) rewards(height int64) sdkmath.LegacyDec {
	h.Helper()
	response, err := distrtypes.NewQueryClient(h.grpc).DelegationTotalRewards(at(height), &distrtypes.QueryDelegationTotalRewardsRequest{DelegatorAddress: h.custody.Address.String()})
	if err != nil {
		h.Fatal(err)
	}
	return response.Total.AmountOf(bondDenom)
}

func (h *harness) coins(amount int64) sdk.Coin { return sdk.NewCoin(bondDenom, sdkmath.NewInt(amount)) }

// blockEvents are the events of a block that belong to no transaction, from CometBFT's RPC.
func (h *harness) blockEvents(height int64, types ...string) []abci.Event {
	h.Helper()
	var result struct {
		Events []abci.Event `json:"finalize_block_events"`
	}
	h.get(fmt.Sprintf("/block_results?height=%d", height), &result)
	return kept(result.Events, types...)
}

// blockSearch are the heights of the blocks that have such an event.
func (h *harness) blockSearch(query string) []int64 {
	h.Helper()
	var result struct {
		Blocks []struct {
			Block struct{ Header struct{ Height string } }
		}
	}
	h.get("/block_search?query="+url.QueryEscape(`"`+query+`"`), &result)
	var heights []int64
	for _, b := range result.Blocks {
		height, err := strconv.ParseInt(b.Block.Header.Height, 10, 64)
		if err != nil {
			h.Fatal(err)
		}
		heights = append(heights, height)
	}
	return heights
}

func (h *harness) get(path string, result any) {
	h.Helper()
	response, err := http.Get(h.rpc + path)
	if err != nil {
		h.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&struct{ Result any }{result}); err != nil {
		h.Fatal(err)
	}
}

func kept(events []abci.Event, types ...string) []abci.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e abci.Event) bool { return !slices.Contains(types, e.Type) })
}

// show prints events as one line each.
func (h *harness) show(what string, events []abci.Event) {
	h.Helper()
	for _, e := range events {
		var attributes []string
		for _, a := range e.Attributes {
			attributes = append(attributes, a.Key+"="+a.Value)
		}
		h.Logf("%s: %s{%s}", what, e.Type, strings.Join(attributes, " "))
	}
}
