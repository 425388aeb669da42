// What a network is made of. Everything has a default, so that a test names only what it cares for.

package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	sdkmath "cosmossdk.io/math"
)

// bondDenom is the Hub's: a millionth of an ATOM.
const bondDenom = "uatom"

// Settings say what network to start.
type Settings struct {
	ChainID       string
	Seed          string        // every key is derived from it
	Home          string        // where the nodes keep their write-ahead logs; made and removed if empty
	Validators    int           // nodes that vote
	Observers     int           // nodes that only follow, and that can be cut off without hurting the chain
	BlockTime     time.Duration // pause after a commit
	Unbonding     time.Duration
	JailFor       time.Duration     // after a downtime
	Window        int64             // blocks of which a validator must sign half
	BlocksPerYear uint64            // divides the year's inflation: fewer blocks, larger rewards
	MinGasPrice   string            // in uatom per gas
	MaxGas        int64             // of all transactions of a block
	Keys          map[string][]byte // private keys given instead of derived ones, by account name
	Log           bool              // the nodes' log to standard error
}

// settingsFrom reads the command line.
func settingsFrom(args []string) (Settings, error) {
	s := Settings{Keys: map[string][]byte{}}
	f := flag.NewFlagSet("cosmosnet", flag.ContinueOnError)
	f.StringVar(&s.ChainID, "chain-id", "softstake-test-1", "the chain's name")
	f.StringVar(&s.Seed, "seed", "softstake test network", "phrase from which every key is derived")
	f.StringVar(&s.Home, "home", "", "directory for the nodes' write-ahead logs (default: a temporary one, removed at the end)")
	f.IntVar(&s.Validators, "validators", 4, "validators; with fewer than 4, one that is down stops the chain")
	f.IntVar(&s.Observers, "observers", 2, "nodes that follow without voting")
	f.DurationVar(&s.BlockTime, "block-time", 500*time.Millisecond, "pause after each commit")
	f.DurationVar(&s.Unbonding, "unbonding", 25*time.Second, "unbonding time")
	f.DurationVar(&s.JailFor, "jail-for", 5*time.Second, "how long a downtime jails")
	f.Int64Var(&s.Window, "window", 10, "blocks of which a validator must sign half")
	f.Uint64Var(&s.BlocksPerYear, "blocks-per-year", 43_600, "blocks among which a year's inflation is divided")
	f.StringVar(&s.MinGasPrice, "min-gas-price", "0.005", "smallest fee per gas, in "+bondDenom)
	f.Int64Var(&s.MaxGas, "max-gas", 30_000_000, "gas of a block at most")
	f.BoolVar(&s.Log, "log", false, "the nodes' log to standard error")
	f.Func("key", "NAME=HEX: an account's private key instead of the derived one; a new name makes a new account", func(v string) error {
		name, digits, ok := strings.Cut(v, "=")
		key, err := hex.DecodeString(digits)
		if !ok || err != nil || len(key) != 32 {
			return errors.New("NAME= and 64 hex digits are expected")
		}
		s.Keys[name] = key
		return nil
	})
	if err := f.Parse(args); err != nil {
		return s, err
	}
	return s, s.check()
}

func (s Settings) check() error {
	if s.Validators < 1 || s.Observers < 0 || s.Validators+s.Observers > 16 {
		return fmt.Errorf("%d validators and %d observers: there must be a validator, and 16 nodes at most", s.Validators, s.Observers)
	}
	if s.Window < 2 || s.BlocksPerYear == 0 {
		return errors.New("window must be 2 or more, and blocks-per-year positive")
	}
	price, err := sdkmath.LegacyNewDecFromStr(s.MinGasPrice)
	if err != nil || price.IsNegative() {
		return fmt.Errorf("min-gas-price %q is no amount", s.MinGasPrice)
	}
	return nil
}

// fee is the smallest fee that the nodes take for so much gas.
func (s Settings) fee(gas uint64) sdkmath.Int {
	return sdkmath.LegacyMustNewDecFromStr(s.MinGasPrice).MulInt(sdkmath.NewIntFromUint64(gas)).Ceil().TruncateInt()
}
