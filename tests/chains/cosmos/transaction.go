// Transactions of our own: built, signed, sent, and waited for.

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	sdkmath "cosmossdk.io/math"
	clienttx "github.com/cosmos/cosmos-sdk/client/tx"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"
)

// txOptions are what a transaction carries besides its messages and its signer.
type txOptions struct {
	memo                    string
	gas                     uint64
	accountNumber, sequence uint64
	timeoutHeight           uint64
}

// signed builds a transaction that pays the smallest fee for its gas, and signs it.
func signed(app *App, s Settings, from *Account, o txOptions, msgs ...sdk.Msg) (authsigning.Tx, error) {
	builder := app.txConfig.NewTxBuilder()
	if err := builder.SetMsgs(msgs...); err != nil {
		return nil, err
	}
	builder.SetMemo(o.memo)
	builder.SetGasLimit(o.gas)
	builder.SetTimeoutHeight(o.timeoutHeight)
	builder.SetFeeAmount(coins(s.fee(o.gas)))
	const mode = signing.SignMode_SIGN_MODE_DIRECT
	// The mode and the key are signed over, so they stand there before there is a signature.
	blank := signing.SignatureV2{
		PubKey: from.key.PubKey(), Sequence: o.sequence, Data: &signing.SingleSignatureData{SignMode: mode},
	}
	if err := builder.SetSignatures(blank); err != nil {
		return nil, err
	}
	data := authsigning.SignerData{
		Address: from.Address.String(), ChainID: s.ChainID, AccountNumber: o.accountNumber, Sequence: o.sequence, PubKey: from.key.PubKey(),
	}
	signature, err := clienttx.SignWithPrivKey(context.Background(), mode, data, builder, from.key, app.txConfig, o.sequence)
	if err != nil {
		return nil, err
	}
	if err := builder.SetSignatures(signature); err != nil {
		return nil, err
	}
	return builder.GetTx(), nil
}

// Included is a transaction that stands in a block and took effect.
type Included struct {
	Hash   string
	Height int64
}

const gasOfOurs = 300_000

// transact signs and sends a transaction, and returns once it stands in a block. A transaction that the chain refused, or
// that failed in its block, is an error.
func (n *Network) transact(from *Account, memo string, msgs ...sdk.Msg) (Included, error) {
	number, sequence, err := n.view().AccountRetriever.GetAccountNumberSequence(n.view(), from.Address)
	if err != nil {
		return Included{}, err
	}
	o := txOptions{memo: memo, gas: gasOfOurs, accountNumber: number, sequence: sequence}
	tx, err := signed(n.nodes[0].app, n.settings, from, o, msgs...)
	if err != nil {
		return Included{}, err
	}
	bytes, err := n.view().TxConfig.TxEncoder()(tx)
	if err != nil {
		return Included{}, err
	}
	sent, err := n.rpc().BroadcastTxSync(context.Background(), bytes)
	if err != nil {
		return Included{}, err
	}
	if sent.Code != 0 {
		return Included{}, fmt.Errorf("refused with code %d of %s: %s", sent.Code, sent.Codespace, sent.Log)
	}
	in := Included{Hash: strings.ToUpper(hex.EncodeToString(sent.Hash))}
	err = until(func() (bool, error) {
		result, err := n.rpc().Tx(context.Background(), sent.Hash, false)
		if err != nil {
			return false, nil // not in a block yet
		}
		in.Height = result.Height
		if result.TxResult.Code != 0 {
			return true, fmt.Errorf("%s failed in block %d with code %d of %s: %s",
				in.Hash, in.Height, result.TxResult.Code, result.TxResult.Codespace, result.TxResult.Log)
		}
		return true, nil
	})
	return in, err
}

func coins(amount sdkmath.Int) sdk.Coins { return sdk.NewCoins(sdk.NewCoin(bondDenom, amount)) }
