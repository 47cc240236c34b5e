// Serves CNCF distribution 2.8: its own handlers and storage, without its command line, one of whose
// modules can no longer be had.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/docker/distribution/configuration"
	"github.com/docker/distribution/context"
	"github.com/docker/distribution/registry/handlers"

	_ "github.com/docker/distribution/registry/auth/htpasswd"
	_ "github.com/docker/distribution/registry/storage/driver/filesystem"
)

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	config, err := configuration.Parse(file)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", config.HTTP.Addr)
	if err != nil {
		return err
	}
	app := handlers.NewApp(context.Background(), config)
	fmt.Fprintf(os.Stderr, "listening on %s\n", listener.Addr())
	return http.Serve(listener, app)
}
