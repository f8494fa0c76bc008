// Package response plays a security response in virtual time, against the real
// server: its handlers, loops and store, on a clock that stands still until the
// story moves it. People act by the command line, reporters by the public form, and
// endpoints by the agents' API.
//
// All of it is in tests: testdata/*.txtar are the stories.
package response
