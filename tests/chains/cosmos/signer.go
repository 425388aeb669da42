// A validator's consensus key, which can be told to stop signing, and which can contradict itself.

package main

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/cometbft/cometbft/crypto"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmttypes "github.com/cometbft/cometbft/types"
)

// Signer signs for a validator as long as it is not silent. It lives in memory and its node is never restarted, so it
// keeps no record of what it signed.
type Signer struct {
	cmttypes.MockPV
	silent atomic.Bool
}

var errSilent = errors.New("this validator was told to be silent")

func newSigner(key crypto.PrivKey) *Signer {
	return &Signer{MockPV: cmttypes.NewMockPVWithParams(key, false, false)}
}

// SignVote signs a vote, or refuses while silent.
func (s *Signer) SignVote(chainID string, vote *cmtproto.Vote) error {
	if s.silent.Load() {
		return errSilent
	}
	return s.MockPV.SignVote(chainID, vote)
}

// SignProposal signs a proposed block, or refuses while silent.
func (s *Signer) SignProposal(chainID string, proposal *cmtproto.Proposal) error {
	if s.silent.Load() {
		return errSilent
	}
	return s.MockPV.SignProposal(chainID, proposal)
}

// equivocate makes evidence that the validator voted for two blocks at one height: two precommits, both truly signed.
func (s *Signer) equivocate(chainID string, height int64, blockTime time.Time, set *cmttypes.ValidatorSet) (*cmttypes.DuplicateVoteEvidence, error) {
	address := s.PrivKey.PubKey().Address()
	index, _ := set.GetByAddress(address)
	var votes [2]*cmttypes.Vote
	for i := range votes {
		hash := crypto.Sha256([]byte{byte(i)})
		vote := &cmttypes.Vote{
			Type:             cmtproto.PrecommitType,
			Height:           height,
			BlockID:          cmttypes.BlockID{Hash: hash, PartSetHeader: cmttypes.PartSetHeader{Total: 1, Hash: hash}},
			Timestamp:        blockTime,
			ValidatorAddress: address,
			ValidatorIndex:   index,
		}
		unsigned := vote.ToProto()
		if err := s.MockPV.SignVote(chainID, unsigned); err != nil {
			return nil, err
		}
		vote.Signature = unsigned.Signature
		votes[i] = vote
	}
	return cmttypes.NewDuplicateVoteEvidence(votes[0], votes[1], blockTime, set)
}
