package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"cosmossdk.io/log"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"
)

// TestVectors has the chain's own code read the transactions that CosmJS made, and check their signatures.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("../vectors/cosmos/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name          string
			ChainID       string `json:"chain_id"`
			AccountNumber string `json:"account_number"`
			Sequence      string
			SignDoc       string `json:"sign_doc"`
			TxRaw         string `json:"tx_raw"`
			TxHash        string `json:"tx_hash"`
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	app, err := newApp(log.NewNopLogger(), Settings{MinGasPrice: "0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			raw := unhex(t, v.TxRaw)
			hash := sha256.Sum256(raw)
			if !bytes.Equal(hash[:], unhex(t, v.TxHash)) {
				t.Error("the hash is another")
			}
			tx, err := app.txConfig.TxDecoder()(raw)
			if err != nil {
				t.Fatal(err)
			}
			signedTx := tx.(authsigning.Tx)
			signatures, err := signedTx.GetSignaturesV2()
			if err != nil || len(signatures) != 1 {
				t.Fatal(signatures, err)
			}
			number, err := strconv.ParseUint(v.AccountNumber, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			key := signatures[0].PubKey
			data := authsigning.SignerData{ChainID: v.ChainID, AccountNumber: number, Sequence: signatures[0].Sequence, PubKey: key}
			doc, err := authsigning.GetSignBytesAdapter(
				context.Background(), app.txConfig.SignModeHandler(), signing.SignMode_SIGN_MODE_DIRECT, data, signedTx)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(doc, unhex(t, v.SignDoc)) {
				t.Errorf("the sign doc is another: %x", doc)
			}
			if !key.VerifySignature(doc, signatures[0].Data.(*signing.SingleSignatureData).Signature) {
				t.Error("the signature does not hold")
			}
		})
	}
	if len(file.Vectors) < 20 {
		t.Error("vectors are missing")
	}
}

func unhex(t *testing.T, digits string) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
