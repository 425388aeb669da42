// Keys, accounts and the genesis state. Parameters are the Hub's except those that are shortened so that a test need not
// wait three weeks; README.md lists them.

package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	sdkmath "cosmossdk.io/math"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	cmttypes "github.com/cometbft/cometbft/types"
	cryptocodec "github.com/cosmos/cosmos-sdk/crypto/codec"
	"github.com/cosmos/cosmos-sdk/crypto/keys/secp256k1"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	minttypes "github.com/cosmos/cosmos-sdk/x/mint/types"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
)

// Amounts at genesis, in uatom. With a self-delegation of five times what custody holds, custody may delegate all to one
// of four validators and that one may still be down without stopping the chain.
var (
	custodyFunds   = sdkmath.NewInt(1_000_000_000_000_000)
	faucetFunds    = sdkmath.NewInt(10_000_000_000_000_000)
	selfDelegation = sdkmath.NewInt(5_000_000_000_000_000)
	operatorFunds  = sdkmath.NewInt(1_000_000_000_000)
)

// Account is a throw-away key of the test network and its address.
type Account struct {
	Name    string
	key     *secp256k1.PrivKey
	Address sdk.AccAddress
	funds   sdkmath.Int
}

func (s Settings) account(name string, funds sdkmath.Int) *Account {
	secret, given := s.Keys[name]
	if !given {
		digest := sha256.Sum256([]byte(s.Seed + "/" + name))
		secret = digest[:]
	}
	key := &secp256k1.PrivKey{Key: secret}
	return &Account{Name: name, key: key, Address: sdk.AccAddress(key.PubKey().Address()), funds: funds}
}

// clientAccounts are the accounts that a test works with: custody, the faucet, and whatever else the settings name.
func (s Settings) clientAccounts() []*Account {
	accounts := []*Account{s.account("custody", custodyFunds), s.account("faucet", faucetFunds)}
	var others []string
	for name := range s.Keys {
		if name != "custody" && name != "faucet" {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	for _, name := range others {
		accounts = append(accounts, s.account(name, custodyFunds))
	}
	return accounts
}

// Validator is a validator's operator account and consensus key.
type Validator struct {
	index   int
	moniker string
	*Account
	signer *Signer
}

func (v *Validator) operator() string { return sdk.ValAddress(v.Address).String() }

func (v *Validator) consensus() sdk.ConsAddress {
	return sdk.ConsAddress(v.signer.PrivKey.PubKey().Address())
}

func (s Settings) validators() []*Validator {
	var validators []*Validator
	for i := range s.Validators {
		name := fmt.Sprintf("validator%d", i)
		validators = append(validators, &Validator{
			index:   i,
			moniker: name,
			Account: s.account(name, selfDelegation.Add(operatorFunds)),
			signer:  newSigner(cmted25519.GenPrivKeyFromSecret([]byte(s.Seed + "/consensus/" + name))),
		})
	}
	return validators
}

// genesis is the document from which every node starts.
func genesis(app *App, s Settings, accounts []*Account, validators []*Validator) (*cmttypes.GenesisDoc, error) {
	state := app.DefaultGenesis()
	for _, v := range validators {
		accounts = append(accounts, v.Account)
	}

	auth := authtypes.DefaultGenesisState()
	auth.Params.MaxMemoCharacters = 512
	bank := banktypes.DefaultGenesisState()
	var bases []authtypes.GenesisAccount
	for _, a := range accounts {
		bases = append(bases, authtypes.NewBaseAccount(a.Address, nil, 0, 0))
		bank.Balances = append(bank.Balances, banktypes.Balance{Address: a.Address.String(), Coins: coins(a.funds)})
	}
	packed, err := authtypes.PackAccounts(bases)
	if err != nil {
		return nil, err
	}
	auth.Accounts = packed

	staking := stakingtypes.DefaultGenesisState()
	staking.Params = stakingtypes.NewParams(s.Unbonding, 100, 7, 100, bondDenom, sdkmath.LegacyNewDecWithPrec(5, 2))

	slashing := slashingtypes.DefaultGenesisState()
	slashing.Params = slashingtypes.NewParams(
		s.Window, sdkmath.LegacyNewDecWithPrec(5, 1), s.JailFor,
		sdkmath.LegacyNewDecWithPrec(5, 2), sdkmath.LegacyNewDecWithPrec(1, 4),
	)

	percent := func(n int64) sdkmath.LegacyDec { return sdkmath.LegacyNewDecWithPrec(n, 2) }
	mint := minttypes.NewGenesisState(
		minttypes.InitialMinter(percent(10)),
		minttypes.NewParams(bondDenom, percent(100), percent(10), percent(7), percent(67), s.BlocksPerYear),
	)

	var first []json.RawMessage
	for _, v := range validators {
		tx, err := firstTransaction(app, s, v)
		if err != nil {
			return nil, err
		}
		first = append(first, tx)
	}

	state[authtypes.ModuleName] = app.cdc.MustMarshalJSON(auth)
	state[banktypes.ModuleName] = app.cdc.MustMarshalJSON(bank)
	state[stakingtypes.ModuleName] = app.cdc.MustMarshalJSON(staking)
	state[slashingtypes.ModuleName] = app.cdc.MustMarshalJSON(slashing)
	state[minttypes.ModuleName] = app.cdc.MustMarshalJSON(mint)
	state[genutiltypes.ModuleName] = app.cdc.MustMarshalJSON(genutiltypes.NewGenesisState(first))
	text, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}

	params := cmttypes.DefaultConsensusParams()
	params.Block.MaxGas = s.MaxGas
	params.Evidence.MaxAgeDuration = s.Unbonding
	params.Evidence.MaxAgeNumBlocks = 100
	doc := &cmttypes.GenesisDoc{
		ChainID: s.ChainID, GenesisTime: time.Now().UTC(), InitialHeight: 1, ConsensusParams: params, AppState: text,
	}
	return doc, doc.ValidateAndComplete()
}

// firstTransaction makes the validator exist: the MsgCreateValidator that genesis carries.
func firstTransaction(app *App, s Settings, v *Validator) (json.RawMessage, error) {
	consensusKey, err := cryptocodec.FromCmtPubKeyInterface(v.signer.PrivKey.PubKey())
	if err != nil {
		return nil, err
	}
	// 5 %, 6 %, 7 % …, so that no two validators pay alike.
	commission := sdkmath.LegacyNewDecWithPrec(int64(5+v.index), 2)
	msg, err := stakingtypes.NewMsgCreateValidator(
		v.operator(), consensusKey, sdk.NewCoin(bondDenom, selfDelegation),
		stakingtypes.NewDescription(v.moniker, "", "", "", ""),
		stakingtypes.NewCommissionRates(commission, sdkmath.LegacyOneDec(), sdkmath.LegacyOneDec()),
		sdkmath.OneInt(),
	)
	if err != nil {
		return nil, err
	}
	tx, err := signed(app, s, v.Account, txOptions{}, msg)
	if err != nil {
		return nil, err
	}
	return app.txConfig.TxJSONEncoder()(tx)
}
