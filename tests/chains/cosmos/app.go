// The application that each node runs: the modules of the Cosmos Hub that softstake's money touches, wired by the SDK's
// own dependency injection, and nothing besides.

package main

import (
	runtimev1alpha1 "cosmossdk.io/api/cosmos/app/runtime/v1alpha1"
	appv1alpha1 "cosmossdk.io/api/cosmos/app/v1alpha1"
	authmodulev1 "cosmossdk.io/api/cosmos/auth/module/v1"
	bankmodulev1 "cosmossdk.io/api/cosmos/bank/module/v1"
	consensusmodulev1 "cosmossdk.io/api/cosmos/consensus/module/v1"
	distrmodulev1 "cosmossdk.io/api/cosmos/distribution/module/v1"
	evidencemodulev1 "cosmossdk.io/api/cosmos/evidence/module/v1"
	genutilmodulev1 "cosmossdk.io/api/cosmos/genutil/module/v1"
	mintmodulev1 "cosmossdk.io/api/cosmos/mint/module/v1"
	slashingmodulev1 "cosmossdk.io/api/cosmos/slashing/module/v1"
	stakingmodulev1 "cosmossdk.io/api/cosmos/staking/module/v1"
	txconfigv1 "cosmossdk.io/api/cosmos/tx/config/v1"
	"cosmossdk.io/core/appconfig"
	"cosmossdk.io/depinject"
	"cosmossdk.io/log"
	pruningtypes "cosmossdk.io/store/pruning/types"
	_ "cosmossdk.io/x/evidence" // registers the module
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/runtime"
	_ "github.com/cosmos/cosmos-sdk/x/auth"           // registers the module
	_ "github.com/cosmos/cosmos-sdk/x/auth/tx/config" // registers the module
	_ "github.com/cosmos/cosmos-sdk/x/bank"           // registers the module
	_ "github.com/cosmos/cosmos-sdk/x/consensus"      // registers the module
	_ "github.com/cosmos/cosmos-sdk/x/distribution"   // registers the module
	_ "github.com/cosmos/cosmos-sdk/x/genutil"        // registers the module
	_ "github.com/cosmos/cosmos-sdk/x/mint"           // registers the module
	_ "github.com/cosmos/cosmos-sdk/x/slashing"       // registers the module
	_ "github.com/cosmos/cosmos-sdk/x/staking"        // registers the module
	"github.com/cosmos/gogoproto/proto"
)

// App is one node's application and the encodings that go with it.
type App struct {
	*runtime.App
	cdc      codec.Codec
	registry codectypes.InterfaceRegistry
	txConfig client.TxConfig
}

// newApp makes an application with an empty state in memory that keeps the state of every height.
func newApp(logger log.Logger, s Settings, options ...func(*baseapp.BaseApp)) (*App, error) {
	var builder *runtime.AppBuilder
	app := &App{}
	config := depinject.Configs(appConfig(), depinject.Supply(logger))
	if err := depinject.Inject(config, &builder, &app.cdc, &app.registry, &app.txConfig); err != nil {
		return nil, err
	}
	options = append(options,
		baseapp.SetPruning(pruningtypes.NewPruningOptions(pruningtypes.PruningNothing)),
		baseapp.SetMinGasPrices(s.MinGasPrice+bondDenom),
		baseapp.SetChainID(s.ChainID),
	)
	app.App = builder.Build(dbm.NewMemDB(), nil, options...)
	return app, app.Load(true)
}

func appConfig() depinject.Config {
	moduleAccounts := []*authmodulev1.ModuleAccountPermission{
		{Account: "fee_collector"},
		{Account: "distribution"},
		{Account: "mint", Permissions: []string{"minter"}},
		{Account: "bonded_tokens_pool", Permissions: []string{"burner", "staking"}},
		{Account: "not_bonded_tokens_pool", Permissions: []string{"burner", "staking"}},
	}
	module := func(name string, config proto.Message) *appv1alpha1.ModuleConfig {
		return &appv1alpha1.ModuleConfig{Name: name, Config: appconfig.WrapAny(config)}
	}
	mint := module("mint", &mintmodulev1.Module{})
	mint.GolangBindings = []*appv1alpha1.GolangBinding{{
		InterfaceType:  "github.com/cosmos/cosmos-sdk/x/mint/types/types.StakingKeeper",
		Implementation: "github.com/cosmos/cosmos-sdk/x/staking/keeper/*keeper.Keeper",
	}}
	return appconfig.Compose(&appv1alpha1.Config{Modules: []*appv1alpha1.ModuleConfig{
		module("runtime", &runtimev1alpha1.Module{
			AppName:           "softstake-test-chain",
			BeginBlockers:     []string{"mint", "distribution", "slashing", "evidence", "staking"},
			EndBlockers:       []string{"staking"},
			InitGenesis:       []string{"auth", "bank", "distribution", "staking", "slashing", "mint", "genutil", "evidence", "consensus"},
			OverrideStoreKeys: []*runtimev1alpha1.StoreKeyConfig{{ModuleName: "auth", KvStoreKey: "acc"}},
		}),
		module("auth", &authmodulev1.Module{Bech32Prefix: "cosmos", ModuleAccountPermissions: moduleAccounts}),
		module("bank", &bankmodulev1.Module{
			BlockedModuleAccountsOverride: []string{"fee_collector", "distribution", "mint", "bonded_tokens_pool", "not_bonded_tokens_pool"},
		}),
		module("staking", &stakingmodulev1.Module{}),
		module("distribution", &distrmodulev1.Module{}),
		module("slashing", &slashingmodulev1.Module{}),
		module("evidence", &evidencemodulev1.Module{}),
		mint,
		module("consensus", &consensusmodulev1.Module{}),
		module("genutil", &genutilmodulev1.Module{}),
		module("tx", &txconfigv1.Config{}),
	}})
}
