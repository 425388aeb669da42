// The levers: one JSON object per line in, one out. README.md lists them.

package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	sdkmath "cosmossdk.io/math"
	cmttypes "github.com/cometbft/cometbft/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
)

// Command is what a line asks for.
type Command struct {
	Do        string `json:"do"`
	From      string `json:"from"`
	To        string `json:"to"`
	Amount    string `json:"amount"`
	Memo      string `json:"memo"`
	Node      *int   `json:"node"`
	Validator *int   `json:"validator"`
	Blocks    int64  `json:"n"`
	Ago       int64  `json:"ago"`
}

// Answer is a line's answer, apart from "ok", "do" and "error".
type Answer map[string]any

// handle carries a line out and gives the line that answers it.
func (n *Network) handle(line []byte) []byte {
	var c Command
	decoder := json.NewDecoder(strings.NewReader(string(line)))
	decoder.DisallowUnknownFields()
	answer, err := Answer(nil), decoder.Decode(&c)
	if err == nil {
		answer, err = n.do(c)
	}
	if answer == nil {
		answer = Answer{}
	}
	answer["do"], answer["ok"] = c.Do, err == nil
	if err != nil {
		answer["error"] = err.Error()
	}
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err) // an answer holds strings and numbers only
	}
	return text
}

func (n *Network) do(c Command) (Answer, error) {
	switch c.Do {
	case "height":
		return n.now()
	case "wait_blocks":
		if _, err := n.waitBlocks(c.Blocks); err != nil {
			return nil, err
		}
		return n.now()
	case "send":
		return n.send(c)
	case "stop_node", "start_node", "lag_node", "catch_up_node":
		return n.node(c)
	case "validator", "down", "double_sign", "unjail":
		return n.validator(c)
	case "halt":
		return n.halt()
	case "resume":
		for _, node := range n.nodes {
			node.brake.on.Store(false)
		}
		if _, err := n.waitBlocks(1); err != nil {
			return nil, err
		}
		return n.now()
	default:
		return nil, fmt.Errorf("there is no command %q", c.Do)
	}
}

func (n *Network) now() (Answer, error) {
	at, err := n.blockTime()
	return Answer{"height": n.height(), "time": at.Format(time.RFC3339Nano)}, err
}

// halt makes every validator refuse every block, and returns once each refused one: the chain stays at that height.
func (n *Network) halt() (Answer, error) {
	for _, node := range n.nodes {
		node.brake.refused.Store(0)
		node.brake.on.Store(true)
	}
	for _, node := range n.nodes[:len(n.validators)] {
		if err := until(func() (bool, error) { return node.brake.refused.Load() > 0, nil }); err != nil {
			return nil, err
		}
	}
	return n.now()
}

func (n *Network) send(c Command) (Answer, error) {
	from, known := n.accounts[c.From]
	if !known {
		return nil, fmt.Errorf("there is no account %q", c.From)
	}
	to, err := sdk.AccAddressFromBech32(c.To)
	if named, isName := n.accounts[c.To]; isName {
		to, err = named.Address, nil
	}
	if err != nil {
		return nil, err
	}
	amount, ok := sdkmath.NewIntFromString(c.Amount)
	if !ok || !amount.IsPositive() {
		return nil, fmt.Errorf("%q is no amount", c.Amount)
	}
	in, err := n.transact(from, c.Memo, banktypes.NewMsgSend(from.Address, to, coins(amount)))
	return Answer{"hash": in.Hash, "height": in.Height}, err
}

func (n *Network) node(c Command) (Answer, error) {
	if c.Node == nil || *c.Node < 0 || *c.Node >= len(n.nodes) {
		return nil, errors.New("\"node\" must be a node's index")
	}
	node := n.nodes[*c.Node]
	switch c.Do {
	case "stop_node":
		if node.serving() {
			node.unserve()
		}
		return nil, nil
	case "start_node":
		if node.serving() {
			return nil, nil
		}
		return nil, node.serve()
	}
	if *c.Node < len(n.validators) {
		return nil, errors.New("only an observer can lag")
	}
	if c.Do == "lag_node" {
		node.cutOff()
		return Answer{"height": node.app.LastBlockHeight()}, nil
	}
	if err := node.rejoin(); err != nil {
		return nil, err
	}
	target := n.height()
	err := until(func() (bool, error) { return node.app.LastBlockHeight() >= target, nil })
	return Answer{"height": node.app.LastBlockHeight()}, err
}

func (n *Network) validator(c Command) (Answer, error) {
	if c.Validator == nil || *c.Validator < 0 || *c.Validator >= len(n.validators) {
		return nil, errors.New("\"validator\" must be a validator's index")
	}
	v := n.validators[*c.Validator]
	switch c.Do {
	case "down":
		return n.down(v)
	case "double_sign":
		return n.doubleSign(v, c.Ago)
	case "unjail":
		if err := n.unjail(v); err != nil {
			return nil, err
		}
	}
	return n.state(v)
}

// state is what the chain holds of a validator now.
func (n *Network) state(v *Validator) (Answer, error) {
	held, err := n.validatorAt(v, 0)
	if err != nil {
		return nil, err
	}
	info, err := n.signingInfo(v)
	if err != nil {
		return nil, err
	}
	return Answer{
		"height": n.height(), "status": held.Status.String(), "jailed": held.Jailed, "tombstoned": info.Tombstoned,
		"tokens": held.Tokens.String(), "delegator_shares": held.DelegatorShares.String(), "missed_blocks": info.MissedBlocksCounter,
	}, nil
}

func slashed(s Slash) Answer {
	return Answer{
		"height": s.Height, "reason": s.Reason, "burned": s.Burned, "tokens_before": s.TokensBefore, "tokens": s.TokensNow,
	}
}

// down silences a validator until the chain has slashed and jailed it for that. It stays silent until unjail.
func (n *Network) down(v *Validator) (Answer, error) {
	held, err := n.validatorAt(v, 0)
	if err != nil {
		return nil, err
	}
	if held.Jailed {
		return nil, errors.New("it is jailed already")
	}
	others, all, err := n.powers(v)
	if err != nil {
		return nil, err
	}
	if 3*others <= 2*all {
		return nil, fmt.Errorf("the chain would stop: the others have %d of %d, which is not more than two thirds", others, all)
	}
	start := n.height()
	v.signer.silent.Store(true)
	slash, err := n.nextSlash(v, start)
	return slashed(slash), err
}

// powers are the voting powers of the validators but one, and of all. A jailed one may still be in CometBFT's set for two
// blocks; it counts for nothing here.
func (n *Network) powers(without *Validator) (others, all int64, err error) {
	query := &stakingtypes.QueryValidatorsRequest{Status: stakingtypes.Bonded.String()}
	response, err := stakingtypes.NewQueryClient(n.view()).Validators(context.Background(), query)
	if err != nil {
		return 0, 0, err
	}
	for _, held := range response.Validators {
		power := held.ConsensusPower(sdk.DefaultPowerReduction)
		if all += power; held.OperatorAddress != without.operator() {
			others += power
		}
	}
	return others, all, nil
}

func (n *Network) votingAt(height int64) (*cmttypes.ValidatorSet, error) {
	perPage := 100
	response, err := n.rpc().Validators(context.Background(), &height, nil, &perPage)
	if err != nil {
		return nil, err
	}
	return cmttypes.ValidatorSetFromExistingValidators(response.Validators)
}

// doubleSign gives a node evidence that a validator signed two blocks at one height, so many blocks ago, and waits until the
// chain has slashed and tombstoned it. What left the validator since that height is slashed too.
func (n *Network) doubleSign(v *Validator, ago int64) (Answer, error) {
	ctx, now := context.Background(), n.height()
	height := now - ago
	if ago < 0 || height < 1 {
		return nil, fmt.Errorf("there is no block %d", height)
	}
	block, err := n.rpc().Block(ctx, &height)
	if err != nil {
		return nil, err
	}
	set, err := n.votingAt(height)
	if err != nil {
		return nil, err
	}
	if !set.HasAddress(v.signer.PrivKey.PubKey().Address()) {
		return nil, errors.New("it did not vote then: it was jailed, or its power was gone")
	}
	evidence, err := v.signer.equivocate(n.settings.ChainID, height, block.Block.Time, set)
	if err != nil {
		return nil, err
	}
	if _, err := n.rpc().BroadcastEvidence(ctx, evidence); err != nil {
		return nil, err
	}
	slash, err := n.nextSlash(v, now)
	answer := slashed(slash)
	answer["infraction_height"], answer["evidence_hash"] = height, strings.ToUpper(hex.EncodeToString(evidence.Hash()))
	return answer, err
}

// unjail lets a validator sign again, waits out its sentence, and returns once it is bonded.
func (n *Network) unjail(v *Validator) error {
	v.signer.silent.Store(false)
	info, err := n.signingInfo(v)
	if err != nil {
		return err
	}
	if info.Tombstoned {
		return errors.New("it signed two blocks at one height, and never comes back")
	}
	served := func() (bool, error) {
		at, err := n.blockTime()
		return at.After(info.JailedUntil), err
	}
	if err := until(served); err != nil {
		return err
	}
	if _, err := n.transact(v.Account, "", slashingtypes.NewMsgUnjail(v.operator())); err != nil {
		return err
	}
	return until(func() (bool, error) {
		held, err := n.validatorAt(v, 0)
		return held.Status == stakingtypes.Bonded, err
	})
}
