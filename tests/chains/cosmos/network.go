// The network as a whole: its nodes, validators and accounts, and what the chain says.

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"cosmossdk.io/log"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/rpc/client/local"
	cmttypes "github.com/cometbft/cometbft/types"
	"github.com/cosmos/cosmos-sdk/client"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
)

// patience bounds every wait of a command. It is generous, since a machine that builds beside the network is slow.
const patience = 2 * time.Minute

// poll is the pause between two looks at the chain.
const poll = 50 * time.Millisecond

// Network is a running network. Its first nodes are the validators', in their order; the observers come after.
type Network struct {
	settings   Settings
	nodes      []*Node
	validators []*Validator
	accounts   map[string]*Account
	clients    []*Account // those named to whoever started the network
}

// startNetwork returns once the chain makes blocks and every node has the second.
func startNetwork(s Settings) (*Network, error) {
	logger := log.NewNopLogger()
	if s.Log {
		logger = log.NewLogger(os.Stderr)
	}
	n := &Network{settings: s, validators: s.validators(), clients: s.clientAccounts(), accounts: map[string]*Account{}}
	for _, a := range n.clients {
		n.accounts[a.Name] = a
	}
	for _, v := range n.validators {
		n.accounts[v.Name] = v.Account
	}
	app, err := newApp(log.NewNopLogger(), s)
	if err != nil {
		return nil, err
	}
	doc, err := genesis(app, s, n.clients, n.validators)
	if err != nil {
		return nil, err
	}
	if err := n.startNodes(logger, doc); err != nil {
		return nil, err
	}
	for _, node := range n.nodes {
		if err := until(func() (bool, error) { return node.comet.BlockStore().Height() >= 2, nil }); err != nil {
			return nil, fmt.Errorf("%s made no second block: %w", node.moniker, err)
		}
	}
	return n, nil
}

func (n *Network) startNodes(logger log.Logger, doc *cmttypes.GenesisDoc) error {
	var places []place
	var monikers []string
	for i := range n.settings.Validators + n.settings.Observers {
		moniker := fmt.Sprintf("observer%d", i-n.settings.Validators)
		if i < n.settings.Validators {
			moniker = n.validators[i].moniker
		}
		at, err := newPlace(n.settings, moniker)
		if err != nil {
			return err
		}
		places, monikers = append(places, at), append(monikers, moniker)
	}
	for i, at := range places {
		// Each dials the validators, save itself; none dials an observer.
		var peers []string
		for j := range n.settings.Validators {
			if i != j {
				peers = append(peers, places[j].dial())
			}
		}
		signer := newSigner(at.key.PrivKey) // an observer's, which is no validator's
		if i < n.settings.Validators {
			signer = n.validators[i].signer
		}
		node, err := startNode(n.settings, logger, n.settings.Home, monikers[i], at, peers, signer, doc)
		if err != nil {
			return fmt.Errorf("%s: %w", monikers[i], err)
		}
		n.nodes = append(n.nodes, node)
	}
	return nil
}

// stop ends every node.
func (n *Network) stop() {
	for _, node := range n.nodes {
		if node.serving() {
			node.unserve()
		}
	}
	for _, node := range n.nodes {
		// It fails for a node that stopped by itself, which then is as it should be.
		_ = node.comet.Stop()
	}
}

// view and rpc ask the first validator's node, in memory: its servers may be stopped meanwhile.
func (n *Network) view() client.Context { return n.nodes[0].ctx }

func (n *Network) rpc() *local.Local { return n.nodes[0].rpc }

func (n *Network) height() int64 { return n.nodes[0].app.LastBlockHeight() }

// blockTime is the time of the latest block.
func (n *Network) blockTime() (time.Time, error) {
	height := n.height()
	block, err := n.rpc().Block(context.Background(), &height)
	if err != nil {
		return time.Time{}, err
	}
	return block.Block.Time, nil
}

// waitBlocks returns the height once it has grown by so many, or says that it did not.
func (n *Network) waitBlocks(blocks int64) (int64, error) {
	start := n.height()
	for reached := start; reached < start+blocks; {
		before := reached
		if err := until(func() (bool, error) { reached = n.height(); return reached > before, nil }); err != nil {
			return reached, fmt.Errorf("no block after %d: %w", before, err)
		}
	}
	return n.height(), nil
}

// until looks again and again whether it is done.
func until(done func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		time.Sleep(poll)
	}
	return errors.New("it took too long")
}

// validatorAt is what the chain held of a validator after a height's block; at 0, after the latest.
func (n *Network) validatorAt(v *Validator, height int64) (stakingtypes.Validator, error) {
	query := stakingtypes.NewQueryClient(n.view().WithHeight(height))
	response, err := query.Validator(context.Background(), &stakingtypes.QueryValidatorRequest{ValidatorAddr: v.operator()})
	if err != nil {
		return stakingtypes.Validator{}, err
	}
	return response.Validator, nil
}

func (n *Network) signingInfo(v *Validator) (slashingtypes.ValidatorSigningInfo, error) {
	response, err := slashingtypes.NewQueryClient(n.view()).SigningInfo(
		context.Background(), &slashingtypes.QuerySigningInfoRequest{ConsAddress: v.consensus().String()})
	if err != nil {
		return slashingtypes.ValidatorSigningInfo{}, err
	}
	return response.ValSigningInfo, nil
}

// Slash is a slash of a validator as a block's events tell of it.
type Slash struct {
	Height                  int64
	Reason, Burned          string
	TokensBefore, TokensNow string
}

// nextSlash waits for a slash of a validator after a height. The validator's own tokens that burned are Burned; what its
// unbonding and redelegated tokens lost comes on top.
func (n *Network) nextSlash(v *Validator, after int64) (Slash, error) {
	slash := Slash{Height: after}
	var found *abci.Event
	err := until(func() (bool, error) {
		for found == nil && slash.Height < n.height() {
			slash.Height++
			results, err := n.rpc().BlockResults(context.Background(), &slash.Height)
			if err != nil {
				return false, err
			}
			for _, event := range results.FinalizeBlockEvents {
				if event.Type == "slash" && attribute(event, "address") == v.consensus().String() {
					found = &event
				}
			}
		}
		return found != nil, nil
	})
	if err != nil {
		return slash, err
	}
	before, err := n.validatorAt(v, slash.Height-1)
	if err != nil {
		return slash, err
	}
	now, err := n.validatorAt(v, slash.Height)
	if err != nil {
		return slash, err
	}
	slash.Reason, slash.Burned = attribute(*found, "reason"), attribute(*found, "burned_coins")
	slash.TokensBefore, slash.TokensNow = before.Tokens.String(), now.Tokens.String()
	return slash, nil
}

func attribute(event abci.Event, key string) string {
	for _, a := range event.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}
