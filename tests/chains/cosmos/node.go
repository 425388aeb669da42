// One node of the network: CometBFT and the application in memory, and the two servers through which a client sees it.
// The servers can be stopped while the node goes on (an endpoint that died), and an observer can be cut off from the
// network while its servers go on (an endpoint that lags).

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"cosmossdk.io/log"
	dbm "github.com/cometbft/cometbft-db"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtcfg "github.com/cometbft/cometbft/config"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/proxy"
	"github.com/cometbft/cometbft/rpc/client/local"
	rpccore "github.com/cometbft/cometbft/rpc/core"
	rpcserver "github.com/cometbft/cometbft/rpc/jsonrpc/server"
	cmttypes "github.com/cometbft/cometbft/types"
	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/server"
	srvconfig "github.com/cosmos/cosmos-sdk/server/config"
	servergrpc "github.com/cosmos/cosmos-sdk/server/grpc"
	servercmtlog "github.com/cosmos/cosmos-sdk/server/log"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	"google.golang.org/grpc"
)

// Node is a running node.
type Node struct {
	moniker string
	peers   []string // whom it dials
	app     *App
	comet   *node.Node
	rpc     *local.Local   // CometBFT's RPC, in memory
	ctx     client.Context // the application's queries, in memory
	brake   *brake
	alone   atomic.Bool // it takes no peer
	logger  log.Logger

	grpcAddress, rpcAddress string // fixed when first served
	grpcServer              *grpc.Server
	rpcServer               *http.Server
}

// place is where a node stands among its peers.
type place struct {
	key  *p2p.NodeKey
	port int
}

func (p place) dial() string { return fmt.Sprintf("%s@127.0.0.1:%d", p.key.ID(), p.port) }

// newPlace derives the node's key and takes a free port for its peers.
func newPlace(s Settings, moniker string) (place, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return place{}, err
	}
	defer listener.Close()
	key := &p2p.NodeKey{PrivKey: cmted25519.GenPrivKeyFromSecret([]byte(s.Seed + "/node/" + moniker))}
	return place{key: key, port: listener.Addr().(*net.TCPAddr).Port}, nil
}

func cometConfig(home, moniker string, at place, peers []string, blockTime time.Duration) *cmtcfg.Config {
	c := cmtcfg.DefaultConfig().SetRoot(filepath.Join(home, moniker))
	c.Moniker = moniker
	c.RPC.ListenAddress = "" // served by serve, below
	c.P2P.ListenAddress = fmt.Sprintf("tcp://127.0.0.1:%d", at.port)
	c.P2P.PersistentPeers = strings.Join(peers, ",")
	c.P2P.AddrBookStrict = false
	c.P2P.AllowDuplicateIP = true
	c.P2P.PexReactor = false
	c.FilterPeers = true // asks the application, for cutOff
	c.P2P.FlushThrottleTimeout = 10 * time.Millisecond
	c.Consensus.TimeoutCommit = blockTime
	c.Consensus.TimeoutPropose = 600 * time.Millisecond
	c.Consensus.TimeoutProposeDelta = 200 * time.Millisecond
	c.Consensus.TimeoutPrevote = 200 * time.Millisecond
	c.Consensus.TimeoutPrevoteDelta = 100 * time.Millisecond
	c.Consensus.TimeoutPrecommit = 200 * time.Millisecond
	c.Consensus.TimeoutPrecommitDelta = 100 * time.Millisecond
	c.Consensus.PeerGossipSleepDuration = 25 * time.Millisecond
	c.Storage.DiscardABCIResponses = false
	c.TxIndex.Indexer = "kv"
	return c
}

// startNode starts a node that votes with signer's key, once that is a validator's.
func startNode(s Settings, logger log.Logger, home, moniker string, at place, peers []string, signer *Signer, doc *cmttypes.GenesisDoc) (*Node, error) {
	logger = logger.With("node", moniker)
	n := &Node{moniker: moniker, peers: peers, brake: new(brake), logger: logger}
	app, err := newApp(logger, s, func(base *baseapp.BaseApp) { base.SetIDPeerFilter(n.admit) })
	if err != nil {
		return nil, err
	}
	n.app = app
	config := cometConfig(home, moniker, at, peers, s.BlockTime)
	cmtcfg.EnsureRoot(config.RootDir)
	comet, err := node.NewNode(
		config, signer, at.key,
		proxy.NewLocalClientCreator(haltable{server.NewCometABCIWrapper(app), n.brake}),
		func() (*cmttypes.GenesisDoc, error) { return doc, nil },
		func(*cmtcfg.DBContext) (dbm.DB, error) { return dbm.NewMemDB(), nil },
		node.DefaultMetricsProvider(config.Instrumentation),
		servercmtlog.CometLoggerWrapper{Logger: logger},
	)
	if err != nil {
		return nil, err
	}
	if err := comet.Start(); err != nil {
		return nil, err
	}
	n.comet, n.rpc = comet, local.New(comet)
	n.ctx = client.Context{}.
		WithChainID(s.ChainID).
		WithCodec(app.cdc).
		WithInterfaceRegistry(app.registry).
		WithTxConfig(app.txConfig).
		WithAccountRetriever(authtypes.AccountRetriever{}).
		WithClient(n.rpc)
	appConfig := srvconfig.DefaultConfig()
	appConfig.MinGasPrices = s.MinGasPrice + bondDenom
	appConfig.Pruning = "nothing"
	app.RegisterTxService(n.ctx)
	app.RegisterTendermintService(n.ctx)
	app.RegisterNodeService(n.ctx, *appConfig)
	n.grpcAddress, n.rpcAddress = "127.0.0.1:0", "127.0.0.1:0"
	return n, n.serve()
}

func (n *Node) serving() bool { return n.grpcServer != nil }

// serve opens both servers, at the same addresses each time.
func (n *Node) serve() error {
	env, err := n.comet.ConfigureRPC()
	if err != nil {
		return err
	}
	grpcServer, err := servergrpc.NewGRPCServer(n.ctx, n.app, srvconfig.DefaultConfig().GRPC)
	if err != nil {
		return err
	}
	grpcListener, err := net.Listen("tcp", n.grpcAddress)
	if err != nil {
		return err
	}
	rpcListener, err := net.Listen("tcp", n.rpcAddress)
	if err != nil {
		grpcListener.Close()
		return err
	}
	n.grpcAddress, n.rpcAddress = grpcListener.Addr().String(), rpcListener.Addr().String()
	n.grpcServer, n.rpcServer = grpcServer, &http.Server{Handler: n.rpcHandler(env)}
	go grpcServer.Serve(grpcListener)
	go n.rpcServer.Serve(rpcListener)
	return nil
}

func (n *Node) rpcHandler(env *rpccore.Environment) http.Handler {
	logger := servercmtlog.CometLoggerWrapper{Logger: n.logger}
	mux := http.NewServeMux()
	rpcserver.RegisterRPCFuncs(mux, env.GetRoutes(), logger)
	return rpcserver.RecoverAndLogHandler(mux, logger)
}

// unserve closes both servers and every connection to them. The node goes on.
func (n *Node) unserve() {
	n.grpcServer.Stop()
	n.rpcServer.Close()
	n.grpcServer, n.rpcServer = nil, nil
}

// brake stops the chain when every validator has it on.
type brake struct {
	on      atomic.Bool
	refused atomic.Int64 // blocks, since it went on
}

// haltable is the application, which refuses every proposed block while its brake is on.
type haltable struct {
	abci.Application
	brake *brake
}

// ProcessProposal says what the node thinks of a block.
func (h haltable) ProcessProposal(ctx context.Context, request *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	if h.brake.on.Load() {
		h.brake.refused.Add(1)
		return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}, nil
	}
	return h.Application.ProcessProposal(ctx, request)
}

// admit answers CometBFT's question whether to take a peer.
func (n *Node) admit(string) *abci.ResponseQuery {
	if n.alone.Load() {
		return &abci.ResponseQuery{Code: 1, Log: "cut off"}
	}
	return &abci.ResponseQuery{}
}

// cutOff takes an observer off the network: it stays at its height, and answers as if that were the latest.
func (n *Node) cutOff() {
	n.alone.Store(true)
	// A peer that was admitted just before may still be on its way into the list.
	for range 10 {
		for _, peer := range n.comet.Switch().Peers().List() {
			n.comet.Switch().StopPeerGracefully(peer)
		}
		time.Sleep(poll)
	}
}

// rejoin connects an observer again.
func (n *Node) rejoin() error {
	n.alone.Store(false)
	for _, peer := range n.peers {
		address, err := p2p.NewNetAddressString(peer)
		if err != nil {
			return err
		}
		err = n.comet.Switch().DialPeerWithAddress(address)
		if _, underway := err.(p2p.ErrCurrentlyDialingOrExistingAddress); err != nil && !underway {
			return err
		}
	}
	return nil
}
