// Command cosmosnet runs a network of Cosmos SDK nodes in one process, for tests that start it as a child: it says where
// the network is in one line of JSON, obeys commands on standard input, and ends when standard input does. README.md says
// how to use it.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	settings, err := settingsFrom(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(settings, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cosmosnet:", err)
		os.Exit(1)
	}
}

// run lasts as long as in does.
func run(s Settings, in io.Reader, out io.Writer) error {
	if s.Home == "" {
		home, err := os.MkdirTemp("", "cosmosnet-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(home)
		s.Home = home
		stopped := make(chan os.Signal, 1)
		signal.Notify(stopped, syscall.SIGINT, syscall.SIGTERM)
		go func() {
			<-stopped
			os.RemoveAll(home)
			os.Exit(1)
		}()
	}
	network, err := startNetwork(s)
	if err != nil {
		return err
	}
	defer network.stop()
	ready, err := json.Marshal(network.ready())
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n", ready)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fmt.Fprintf(out, "%s\n", network.handle(lines.Bytes()))
	}
	return lines.Err()
}

// ready is the first line: all that a test needs to know of the network.
func (n *Network) ready() map[string]any {
	var nodes, validators, accounts []map[string]any
	for i, node := range n.nodes {
		nodes = append(nodes, map[string]any{
			"index": i, "moniker": node.moniker, "validator": i < len(n.validators),
			"grpc": "http://" + node.grpcAddress, "rpc": "http://" + node.rpcAddress,
		})
	}
	for _, v := range n.validators {
		validators = append(validators, map[string]any{
			"index": v.index, "moniker": v.moniker, "operator_address": v.operator(), "consensus_address": v.consensus().String(),
			"account_address": v.Address.String(), "self_delegation": selfDelegation.String(),
		})
	}
	for _, a := range n.clients {
		accounts = append(accounts, map[string]any{
			"name": a.Name, "address": a.Address.String(), "private_key": hex.EncodeToString(a.key.Key), "funds": a.funds.String(),
		})
	}
	return map[string]any{
		"ready": true, "chain_id": n.settings.ChainID, "bond_denom": bondDenom, "min_gas_price": n.settings.MinGasPrice,
		"unbonding_seconds": n.settings.Unbonding.Seconds(), "jail_seconds": n.settings.JailFor.Seconds(),
		"nodes": nodes, "validators": validators, "accounts": accounts,
	}
}
