// Package agent is an endpoint: it enrols with a server, and runs the keeper,
// which starts link and the products' engines as processes of their own
// (agent/keeper, agent/link). This package lays out an agent's home and joins
// its parts; it decides nothing about updates.
//
// Its words: home, enrolment.
package agent
