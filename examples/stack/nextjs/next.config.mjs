// A folder that holds all the server needs, for a small image.
export default { output: "standalone" };
